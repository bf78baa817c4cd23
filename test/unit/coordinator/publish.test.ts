/** The coordinator with its files and sessions, and workers that are played: what is published, and when. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { stageCheckpoint } from '../../../src/checkpoint/store.js';
import { loadConfigWithSources } from '../../../src/config/load.js';
import { startCoordinator } from '../../../src/coordinator/run.js';
import { canonicalHash } from '../../../src/files/hash.js';
import { CoordinatorSession } from '../../../src/worker/session.js';
import { contentOf } from '../../support/checkpoints.js';
import { temporaryFolder } from '../../support/folders.js';
import { JOIN } from '../../support/join.js';
import { TRAINING } from '../../support/launched.js';

const SETS = ['telemetry.metrics_port=null', 'schedule.steps=2', 'schedule.warmup=0', 'checkpoint.every=1'];
const loaded = loadConfigWithSources(TRAINING, [
  ...SETS,
  'batch.global=2',
  'batch.micro=1',
  'validation.every=0',
  'checkpoint.keep=1',
]);

let runDir: string;
let root: string;
let sessions: CoordinatorSession[];
beforeEach(() => {
  runDir = temporaryFolder();
  root = join(runDir, 'checkpoints');
  sessions = [];
});
afterEach(() => {
  for (const session of sessions) session.close();
});

/** A coordinator whose two workers, by rank, train. */
async function training() {
  const options = {
    loaded,
    workers: 2,
    minWorkers: 2,
    runDir,
    resume: 'auto',
    network: null,
    prometheusTargets: null,
    launcher: null,
  };
  let address = '';
  const run = await startCoordinator({ ...options, onListening: (found) => (address = found) });
  const workers = ['a', 'b'].map(() => new CoordinatorSession({ address, proof: null }));
  sessions.push(...workers);
  await Promise.all(
    workers.map(async (worker, rank) => {
      const { configJson } = await worker.join({ ...JOIN, workerId: `w${rank}` });
      worker.send({ standby: {} });
      await worker.formation();
      worker.send({ formed: {} });
      await worker.next('sync');
      worker.send({
        ready: { configHash: canonicalHash(JSON.parse(configJson)), datasetHash: 'd', stateHash: 's' },
      });
      await worker.next('start');
    }),
  );
  return { run: run!, workers };
}

/** All prepare a step and get its commit. */
async function step(workers: readonly CoordinatorSession[], step: number) {
  for (const [slot, worker] of workers.entries()) {
    const slots = [{ slot, losses: [1], samples: [slot] }];
    worker.send({ prepared: { step, slots, gradientNorm: 1, nonFinite: [] } });
  }
  for (const worker of workers) expect(await worker.next('commit')).toMatchObject({ checkpoint: true });
}

async function stage(worker: CoordinatorSession, step: number): Promise<void> {
  const { folder, seconds } = await stageCheckpoint(root, contentOf(step, step));
  worker.send({ saved: { step, folder, seconds, stallSeconds: 0, bytes: 1 } });
}

test('a checkpoint gets its final name when all workers hold its state; old ones are removed after it', async () => {
  const { run, workers } = await training();
  await step(workers, 1);
  await stage(workers[0]!, 1);
  workers[0]!.send({ applied: { step: 1, stateHash: 'same' } });
  // Whatever the coordinator would do with these two, it has done when the log has the answer to a third.
  workers[0]!.send({ generation: 99, finished: {} });
  await expect.poll(() => readFileSync(join(runDir, 'run.log'), 'utf8')).toContain('refused finished');
  expect(readdirSync(root)).toEqual([expect.stringMatching(/^\.partial-step-00000001-/)]);
  workers[1]!.send({ applied: { step: 1, stateHash: 'same' } });
  await expect.poll(() => readdirSync(root)).toEqual(['step-00000001']);

  await step(workers, 2);
  for (const worker of workers) worker.send({ applied: { step: 2, stateHash: 'same' } });
  await stage(workers[0]!, 2);
  for (const worker of workers) worker.send({ finished: {} });
  expect(await run.done).toBe(0);
  expect(readdirSync(root)).toEqual(['step-00000002']);
});

test('where the states differ nothing is published, and what was staged goes', async () => {
  const { run, workers } = await training();
  await step(workers, 1);
  for (const worker of workers) worker.send({ applied: { step: 1, stateHash: 'same' } });
  await stage(workers[0]!, 1);
  await expect.poll(() => readdirSync(root)).toEqual(['step-00000001']);
  await step(workers, 2);
  await stage(workers[0]!, 2);
  for (const [rank, worker] of workers.entries())
    worker.send({ applied: { step: 2, stateHash: `state ${rank}` } });
  expect(await run.done).toBe(1);
  expect(readdirSync(root)).toEqual(['step-00000001']);
  const log = readFileSync(join(runDir, 'run.log'), 'utf8');
  expect(log).toContain('ERR_STATE_MISMATCH: The state of rank ');
  expect(log).toContain('hint: The last checkpoint is that of step 1: --resume auto');
});

test('a folder that was not staged is not published, wherever it points', async () => {
  const { run, workers } = await training();
  await step(workers, 1);
  for (const worker of workers) worker.send({ applied: { step: 1, stateHash: 'same' } });
  workers[0]!.send({ saved: { step: 1, folder: '../../elsewhere', seconds: 1, stallSeconds: 0, bytes: 1 } });
  await expect
    .poll(() => readFileSync(join(runDir, 'run.log'), 'utf8'))
    .toContain('ERR_PROTOCOL: \\"../../elsewhere\\" is not a staged checkpoint');
  run.stop('SIGINT');
  for (const worker of workers) worker.close();
  expect(await run.done).toBe(130);
});
