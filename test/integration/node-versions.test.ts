/**
 * The bits of a run are the same under every Node.js that package.json serves, and so are its data set and
 * its pictures. scripts/install-nodes.sh installs the versions that this one is not; .ci/run calls it.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { version } from '../../src/version.js';
import { temporaryFolder } from '../support/folders.js';
import { fingerprint } from '../support/launched.js';
import { because } from '../support/needs.js';
import { orchestratorIn, succeeds } from '../support/program.js';

const STEPS = 30;
const CONFIG = resolve('configs/shapes-tiny.yaml');

const { engines } = JSON.parse(readFileSync('package.json', 'utf8')) as { engines: { node: string } };
const majors = engines.node.match(/(?<=\^|>=)\d+/g) as string[];
const others = majors
  .filter((major) => major !== process.versions.node.split('.')[0])
  .map((major) => {
    const node = resolve(`build-node/${major}/node_modules/node-linux-${process.arch}/bin/node`);
    const reason = existsSync(node) ? null : `needs Node.js ${major}: bash scripts/install-nodes.sh`;
    return { major, node, reason };
  });

/**
 * What one Node.js printed and wrote, in a folder of its own; paths are relative, so that they are the same.
 */
function everything(node: string): Record<string, unknown> {
  const cwd = temporaryFolder();
  const orchestrator = (...args: string[]): string => {
    const ended = orchestratorIn({ cwd, node }, ...args);
    expect(ended.stderr).not.toMatch(/warning/i);
    return succeeds(ended);
  };
  const help = orchestrator('--help');
  const doctor = JSON.parse(orchestrator('doctor', '--json')) as Record<string, unknown>[];
  orchestrator('dataset', 'shapes', '--out', 'data', '--count', '256', '--seed', '3');
  // One checkpoint on the way: a second would be left out where the first is still being written.
  const options = ['data.path=data', `schedule.steps=${STEPS}`, `checkpoint.every=${STEPS / 2}`];
  const sets = options.flatMap((set) => ['--set', set]);
  orchestrator('launch', CONFIG, '--nodes', '2', '--run-dir', 'run', ...sets);
  const picture = ['--prompt', 'red circle', 'three blue squares', '--steps', '3', '--out', 'picture.png'];
  const sampled = orchestrator('sample', '--checkpoint', 'run', ...picture);
  const score = orchestrator('evaluate', '--checkpoint', 'run', '--count', '1', '--steps', '3');
  return {
    help,
    doctor: doctor.map(({ name, status }) => [name, status]),
    sampled,
    score: score.replaceAll(/[\d.]+ (ms|s)\b/g, 'TIME'),
    run: fingerprint(join(cwd, 'run'), STEPS),
    files: filesOf(cwd),
  };
}

/** Digests of all files by path, times, processes and the version of Node.js left out. */
function filesOf(cwd: string): Record<string, string> {
  const files: Record<string, string> = {};
  for (const path of readdirSync(cwd, { recursive: true, encoding: 'utf8' }).sort()) {
    if (!statSync(join(cwd, path)).isFile()) continue;
    if (/(journal|metrics)\.jsonl$|run\.log$|tfevents/.test(path)) continue; // metrics without times: fingerprint()
    let bytes = readFileSync(join(cwd, path));
    if (/checkpoints.*manifest\.json$/.test(path)) {
      const manifest = JSON.parse(bytes.toString()) as { versions: { node: string }; checksum: string };
      expect(manifest.versions).toMatchObject({ orchestrator: version() });
      manifest.versions.node = '';
      manifest.checksum = ''; // of all else
      bytes = Buffer.from(JSON.stringify(manifest));
    }
    files[path] = createHash('sha256').update(bytes).digest('hex');
  }
  return files;
}

describe('Node.js', () => {
  let reference: Record<string, unknown>;
  beforeAll(() => {
    if (others.some(({ reason }) => reason === null)) reference = everything(process.execPath);
  });

  test('20, 22 and 24 are served', () => {
    expect(majors).toEqual(['20', '22', '24']);
  });

  for (const { major, node, reason } of others)
    test.skipIf(reason)(
      because(`${major}: the same data set, ${STEPS} steps on two nodes, pictures and score`, reason),
      () => {
        const { stdout } = spawnSync(node, ['--version'], { encoding: 'utf8' });
        expect(stdout).toMatch(new RegExp(`^v${major}\\.`));
        const got = everything(node);
        expect(Object.keys(got.files as object).length).toBeGreaterThan(10);
        expect(got).toEqual(reference);
      },
    );
});
