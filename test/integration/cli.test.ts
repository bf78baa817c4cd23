import { spawnSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { buildProgram } from '../../src/cli/program.js';
import { leafCommands } from '../../src/reference/cli-page.js';
import { temporaryFolder } from '../support/folders.js';
import { rows } from '../support/full.js';
import { orchestrator, orchestratorIn } from '../support/program.js';

const folder = temporaryFolder();
const config = join(folder, 'run.yaml');
writeFileSync(config, 'name: x\ndata: {path: d}\n');

const commands = [...leafCommands(await buildProgram(), [])].map(({ path }) => path.slice(1).join(' '));
const STANDING = ['launch', 'dataset inspect', 'study run'];

describe('exit codes and output', () => {
  test('0 and the version', () => {
    for (const words of [['--version'], ['-V'], ['--debug', '-V']]) {
      expect(orchestrator(...words)).toMatchObject({
        status: 0,
        stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
      });
    }
  });

  test.each(
    rows(
      STANDING,
      commands.filter((name) => !STANDING.includes(name)),
    ),
  )('0 and the help of %s', (name) => {
    const { status, stdout } = orchestrator(...name.split(' '), '--help');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^Usage: orchestrator /);
  });

  test('runs from any folder, and through a link', () => {
    const link = join(folder, 'link');
    symlinkSync(resolve('orchestrator'), link);
    const { status, stdout } = spawnSync(link, ['config', 'show', 'run.yaml'], {
      encoding: 'utf8',
      cwd: folder,
    });
    expect(status).toBe(0);
    expect(stdout).toContain('run.yaml:1:7');
  });

  test('a run is named by its folder or by its name under runs/, and a file is no checkpoint', () => {
    const run = join(folder, 'runs', 'demo');
    mkdirSync(run, { recursive: true });
    for (const file of ['config.yaml', 'ledger.jsonl']) writeFileSync(join(run, file), '');
    for (const command of [
      ['checkpoint', 'inspect'],
      ['checkpoint', 'verify'],
      ['sample', '--prompt', 'a red circle', '--out', 'x.png', '--checkpoint'],
      ['model', 'inspect'],
    ]) {
      const named = orchestratorIn({ cwd: folder }, ...command, 'demo');
      expect(named.stderr).toMatch(/ERR_CHECKPOINT_MISSING: runs\/demo is a run that has not saved/);
    }
    for (const command of ['inspect', 'verify']) {
      const { stderr } = orchestrator('checkpoint', command, config);
      expect(stderr).toContain(
        `${config} is a file\nhint: Give the folder of the checkpoint, such as ${folder}\n`,
      );
    }
  });

  test('sample refuses what it could not write before it looks for the model', () => {
    const out = join(config, 'x.png');
    const refused = orchestrator('sample', '--prompt', 'cross', '--out', out, '--checkpoint', 'nowhere');
    expect(refused).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^error ERR_FILE_WRITE: .*run\.yaml is a file, not a folder/),
    });
  });

  test('what other trainers have is answered with what to type', () => {
    expect(orchestrator('train', 'x.yaml')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('hint: Here it is `orchestrator launch`\n'),
    });
  });

  test('2 for what the command line does not know', () => {
    expect(orchestrator('conifg')).toMatchObject({
      status: 2,
      stdout: '',
      stderr: expect.stringMatching(/^error ERR_USAGE: unknown command 'conifg'\n\(Did you mean config\?\)/),
    });
    expect(orchestrator('doctor', '--jsn')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('--json'),
    });
    expect(orchestrator('config', 'show')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("error ERR_USAGE: missing required argument 'config'"),
    });
  });

  test('2 for a wrong configuration, without a stack', () => {
    const { status, stdout, stderr } = orchestrator('config', 'show', config, '--set', 'batch.micro=0');
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(
      /^error ERR_CONFIG: --set batch\.micro=0: batch\.micro: expected an integer of at least 1, received 0\nhint: /,
    );
    expect(stderr).not.toContain('    at ');
  });

  test('a stack with --debug, before or after the command', () => {
    expect(orchestrator('--debug', 'config', 'show', 'none.yaml').stderr).toContain('    at ');
    expect(orchestrator('config', 'show', 'none.yaml', '--debug').stderr).toContain('    at ');
  });

  test('ends quietly when the reader has seen enough', () => {
    const script = `for i in 1 2 3; do node dist/cli/main.js config show '${config}' | head -n 1; done`;
    const { status, stdout, stderr } = spawnSync('bash', ['-o', 'pipefail', '-c', script], {
      encoding: 'utf8',
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout.trim().split('\n')).toHaveLength(3);
  });
});

describe('config show', () => {
  test('prints every value with its origin', () => {
    const { stdout } = orchestrator('config', 'show', config, '--set', 'seed=7');
    expect(stdout).toMatch(/^seed +7 +--set seed=7$/m);
    expect(stdout).toContain(`${config}:1:7`);
    expect(stdout).toMatch(/^schedule\.steps +1000 +default$/m);
  });

  test('prints YAML that loads to the same configuration', () => {
    const effective = join(folder, 'effective.yaml');
    writeFileSync(
      effective,
      orchestrator(
        'config',
        'show',
        config,
        '--set',
        'ema=null',
        '--set',
        'validation.weights=[master]',
        '--yaml',
      ).stdout,
    );
    const again = orchestrator('config', 'show', effective, '--json').stdout;
    expect(JSON.parse(again)).toMatchObject({ name: 'x', ema: null, validation: { weights: ['master'] } });
  });
});

describe('doctor', () => {
  test('exits with 0 only where nothing failed', () => {
    const { status, stdout } = orchestrator('doctor', '--json');
    const checks = JSON.parse(stdout) as {
      name: string;
      status: string;
      detail: string;
      fix: string | null;
    }[];
    const failed = checks.filter((check) => check.status === 'failed');
    expect(status).toBe(failed.length === 0 ? 0 : 1);
    expect(failed.every(({ fix }) => fix !== null)).toBe(true);
    expect(checks.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['node', 'cores', 'memory', 'addon', 'cuda', 'disk']),
    );
  });
});
