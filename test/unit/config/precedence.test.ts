import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { keyPaths } from '../../../src/config/describe.js';
import { explain, loadConfig, loadConfigWithSources, parseConfig } from '../../../src/config/load.js';
import { OWN_VARIABLES } from '../../../src/config/sources.js';
import { canonicalJson } from '../../../src/files/json.js';
import { MINIMAL, problems, yaml } from '../../support/config.js';

describe('precedence', () => {
  const path = yaml(`${MINIMAL}batch: {global: 8, micro: 4}\n`);

  test('is flag, environment, file, default', () => {
    const environment = { ORCHESTRATOR_BATCH__GLOBAL: '16', ORCHESTRATOR_BATCH__MICRO: '2' };
    expect(loadConfig(path, [], {}).batch).toEqual({ global: 8, micro: 4, accumulate: 1 });
    expect(loadConfig(path, [], environment).batch).toEqual({ global: 16, micro: 2, accumulate: 1 });
    expect(loadConfig(path, ['batch.global=32'], environment).batch).toEqual({
      global: 32,
      micro: 2,
      accumulate: 1,
    });
    expect(loadConfig(path, [], {}).seed).toBe(0);
  });

  test('lets the last of two flags win', () => {
    expect(loadConfig(path, ['batch.global=32', 'batch.global=64'], {}).batch.global).toBe(64);
    expect(loadConfig(path, ['batch.micro=1', 'batch={global: 64}'], {}).batch).toEqual({
      global: 64,
      micro: 32,
      accumulate: 1,
    });
  });

  test('reads flags and variables as YAML', () => {
    const { model, ema, init, objective } = loadConfig(
      path,
      ['model.dual_attention=[0, 1]', 'ema.decay=0.5', 'objective.formulation=rf/lognorm(0.50, 1)'],
      { ORCHESTRATOR_INIT: 'null' },
    );
    expect(model.dual_attention).toEqual([0, 1]);
    expect(ema).toEqual({ decay: 0.5, every: 1, warmup: true });
    expect(init).toBeNull();
    expect(objective.formulation).toBe('rf/lognorm(0.5,1)');
  });

  test('sets keys under a mapping that the file had switched off', () => {
    const off = yaml(`${MINIMAL}ema: null\n`);
    expect(loadConfig(off, ['ema.decay=0.5'], {}).ema).toEqual({ decay: 0.5, every: 1, warmup: true });
  });

  test('names the flag or the variable in errors', () => {
    expect(
      problems(MINIMAL, ['batch.micro=0'], { ORCHESTRATOR_SEED: 'x', ORCHESTRATOR_MODEL__DEPHT: '3' }),
    ).toEqual([
      '--set batch.micro=0: batch.micro: expected an integer of at least 1, received 0',
      expect.stringMatching(/^ORCHESTRATOR_MODEL__DEPHT: model\.depht: unknown key; .*; did you mean depth$/),
      'ORCHESTRATOR_SEED: seed: expected an integer of at least 0, received "x"',
    ]);
    expect(problems(MINIMAL, ['bath.micro=3'])).toEqual([
      expect.stringMatching(/^--set bath\.micro=3: bath: unknown key; .*; did you mean batch$/),
    ]);
    expect(problems(MINIMAL, ['batch.micro'])).toEqual([
      '--set batch.micro: expected key=value, such as batch.micro=8',
    ]);
    expect(problems(MINIMAL, ['name.x=3'])).toEqual(['--set name.x=3: name.x: name is not a mapping']);
    expect(problems(MINIMAL, ['ema=['])).toEqual([
      expect.stringMatching(/^--set ema=\[: ema: not readable as YAML/),
    ]);
  });

  test('points a broken rule out at the key that the user set last', () => {
    expect(problems(MINIMAL, ['schedule.warmup=2000'])).toEqual([
      '--set schedule.warmup=2000: schedule.warmup: expected at most schedule.steps (1000), received 2000; lower schedule.warmup, or train for more steps',
    ]);
    const text = 'batch.global: expected a multiple of batch.micro (24), received 64';
    expect(problems(MINIMAL, ['batch.micro=24'])).toEqual([
      `--set batch.micro=24: ${text} (batch.global has its default; set it too)`,
    ]);
    const inFile = `${MINIMAL}batch: {global: 64, micro: 24}\n`;
    expect(problems(inFile)).toEqual([`FILE:3:17: ${text}`]);
    expect(problems(`${MINIMAL}batch: {global: 64}\n`, ['batch.micro=24'])).toEqual([
      `--set batch.micro=24: ${text} (batch.global is set at FILE:3:17)`,
    ]);
    const micro = { ORCHESTRATOR_BATCH__MICRO: '24' };
    expect(problems(inFile, [], micro)).toEqual([
      `ORCHESTRATOR_BATCH__MICRO: ${text} (batch.global is set at FILE:3:17)`,
    ]);
    expect(problems(inFile, ['batch.global=64'], micro)).toEqual([`--set batch.global=64: ${text}`]);
    expect(problems(inFile, ['batch.global=64', 'batch.micro=24'])).toEqual([
      `--set batch.micro=24: ${text} (batch.global is set at --set batch.global=64)`,
    ]);
  });

  test('takes misspelt variables for errors, and leaves other variables of the program alone', () => {
    const problemOf = (name: string) => problems(MINIMAL, [], { [name]: '1' });
    const unknown = 'unknown variable; a key such as batch.micro is ORCHESTRATOR_BATCH__MICRO';
    expect(problemOf('ORCHESTRATOR_SEDE')).toEqual([
      `ORCHESTRATOR_SEDE: ${unknown}; did you mean ORCHESTRATOR_SEED`,
    ]);
    expect(problemOf('ORCHESTRATOR_BATCH_MICRO')).toEqual([
      `ORCHESTRATOR_BATCH_MICRO: ${unknown}; did you mean ORCHESTRATOR_BATCH__MICRO`,
    ]);
    expect(problemOf('ORCHESTRATOR_ISO')).toEqual([
      `ORCHESTRATOR_ISO: ${unknown}; did you mean ORCHESTRATOR_ISA`,
    ]);
    expect(problemOf('ORCHESTRATOR_SOMETHING_ELSE')).toEqual([`ORCHESTRATOR_SOMETHING_ELSE: ${unknown}`]);
    const own = Object.fromEntries(OWN_VARIABLES.map((name) => [name, 'x']));
    expect(loadConfig(path, [], { ...own, HOME: '/root' })).toEqual(loadConfig(path, [], {}));
  });

  test('knows every variable that the program, its scripts, tests and benches use', () => {
    const folders = [
      'src',
      'native',
      'bench',
      'scripts',
      '.ci',
      'test/support',
      'test/integration',
      'test/native',
    ];
    const files = folders.flatMap((folder) =>
      readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name)),
    );
    const names = files.flatMap(
      (file) => readFileSync(file, 'utf8').match(/\bORCHESTRATOR_[A-Z][A-Z\d_]*/g) ?? [],
    );
    expect(new Set(names)).toContain('ORCHESTRATOR_TEST_SMALL');
    // The first is the word for any key in the reference page.
    const known = new Set(['ORCHESTRATOR_KEY', ...OWN_VARIABLES]);
    const isKey = (name: string) =>
      keyPaths().some((key) => name === `ORCHESTRATOR_${key.join('__').toUpperCase()}`);
    expect([...new Set(names)].filter((name) => !known.has(name) && !isKey(name))).toEqual([]);
  });
});

describe('explain', () => {
  test('says which value came from where', () => {
    const path = yaml(`${MINIMAL}batch:\n  global: 8\n  micro: 4\n`);
    const loaded = loadConfigWithSources(path, ['schedule={steps: 90}'], { ORCHESTRATOR_SEED: '7' });
    const rows = new Map(explain(loaded).map((row) => [row.key, row]));
    expect(rows.get('batch.micro')).toEqual({
      key: 'batch.micro',
      value: 4,
      source: 'file',
      place: `${path}:5:10`,
    });
    expect(rows.get('seed')).toEqual({
      key: 'seed',
      value: 7,
      source: 'environment',
      place: 'ORCHESTRATOR_SEED',
    });
    expect(rows.get('schedule.steps')).toMatchObject({ source: 'flag', place: '--set schedule={steps: 90}' });
    expect(rows.get('schedule.warmup')).toMatchObject({ value: 50, source: 'default', place: '' });
    expect(rows.get('ema.decay')).toMatchObject({ value: 0.999, source: 'default' });
  });
});

describe('the canonical JSON', () => {
  test('is the same whatever the order of the file, and reads back to the same configuration', () => {
    const a = loadConfig(yaml('name: x\ndata: {path: d}\nbatch: {micro: 4, global: 8}\n'), [], {});
    const b = loadConfig(yaml('batch: {global: 8, micro: 4}\ndata: {path: d}\nname: x\n'), [], {});
    expect(canonicalJson(a)).toBe(canonicalJson(b));
    expect(parseConfig(canonicalJson(a), 'manifest.json')).toEqual(a);
  });

  test('is refused under the name of what stored it', () => {
    expect(() => parseConfig('{"name":"x"}', 'manifest.json')).toThrow(/^manifest\.json:1:1: data: expected/);
  });
});
