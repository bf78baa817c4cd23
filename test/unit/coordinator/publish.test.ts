/** The coordinator with its files and sessions, and workers that are played: what is published, and when. */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { stageCheckpoint } from '../../../src/checkpoint/store.js';
import { loadConfigWithSources } from '../../../src/config/load.js';
import { Publisher } from '../../../src/coordinator/publisher.js';
import { startCoordinator } from '../../../src/coordinator/start.js';
import { EXIT } from '../../../src/errors.js';
import { canonicalHash } from '../../../src/files/hash.js';
import { CoordinatorSession } from '../../../src/worker/session.js';
import { contentOf } from '../../support/checkpoints.js';
import { temporaryFolder } from '../../support/folders.js';
import { JOIN } from '../../support/join.js';
import { readLines, TRAINING } from '../../support/launched.js';
import { killed } from '../../support/rule-script.js';

const SETS = ['telemetry.metrics_port=null', 'schedule.steps=2', 'schedule.warmup=0', 'checkpoint.every=1'];
const load = (validateEvery: number) =>
  loadConfigWithSources(TRAINING, [
    ...SETS,
    'batch.global=2',
    'batch.micro=1',
    `validation.every=${validateEvery}`,
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

test('what this process writes for a worker that is gone is not removed with what others have staged', async () => {
  const names = [process.pid, 1].map((pid) => `.partial-step-00000004-${pid}-0a1b2c3d`);
  for (const name of names) mkdirSync(join(root, name), { recursive: true });
  new Publisher(runDir, { keep: 1, keepEvery: 0, keepBest: false }, new Map(), () => {}).sweep([]);
  await expect.poll(() => readdirSync(root)).toEqual([names[0]]);
});

/** A coordinator whose two workers, by rank, train. */
async function training(validateEvery = 0, minWorkers = 2) {
  const options = {
    loaded: load(validateEvery),
    workers: 2,
    minWorkers,
    runDir,
    resume: 'auto',
    patienceSeconds: 60,
    again: false,
    network: null,
    prometheusTargets: null,
    launcher: null,
  };
  let address = '';
  const run = await startCoordinator({ ...options, onListening: (found) => (address = found) });
  const workers = ['a', 'b'].map(() => new CoordinatorSession({ address, proof: null }));
  sessions.push(...workers);
  const hashes = await Promise.all(
    workers.map(async (worker, rank) => {
      const { configJson } = await worker.join({ ...JOIN, workerId: `w${rank}` });
      const configHash = canonicalHash(JSON.parse(configJson));
      worker.send({ standby: {} });
      await start(worker, configHash, 0);
      return configHash;
    }),
  );
  return { run: run!, workers, configHash: hashes[0]! };
}

/** Takes part in the next generation with the state after a step. */
async function start(worker: CoordinatorSession, configHash: string, step: number): Promise<void> {
  await worker.formation();
  worker.send({ formed: step === 0 ? {} : { held: { step } } });
  await worker.next('sync');
  worker.send({ ready: { step, configHash, datasetHash: 'd', stateHash: 's' } });
  await worker.next('start');
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
  expect(log).toContain('a faulty processor. The last checkpoint is that of step 1: `--resume auto`');
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
  // Step 1 is in no checkpoint, and nobody is left who could save it, or come back.
  for (const id of ['w0', 'w1']) {
    run.workerExited(id, { exit: killed('SIGKILL'), again: false });
  }
  expect(await run.done).toBe(EXIT.unsaved);
  expect(readFileSync(join(runDir, 'run.log'), 'utf8')).toContain(
    'stopped without saving: there is no checkpoint yet: 1 step is lost',
  );
});

test('the time of a validation is not taken off the step of the generation that follows', async () => {
  const { run, workers, configHash } = await training(1, 1);
  await step(workers, 1);
  for (const worker of workers) {
    worker.send({ validated: { step: 1, losses: [], seconds: 3600, abandoned: true, emaDistance: 0 } });
  }
  const says = (text: string) =>
    expect.poll(() => readFileSync(join(runDir, 'run.log'), 'utf8')).toContain(text);
  await says('validation at step 1 abandoned');
  const [left, lost] = workers as [CoordinatorSession, CoordinatorSession];
  lost.close();
  await start(left, configHash, 1);
  const slots = [0, 1].map((slot) => ({ slot, losses: [1], samples: [slot] }));
  left.send({ prepared: { step: 2, slots, gradientNorm: 1, nonFinite: [] } });
  await left.next('commit');
  const steps = () => readLines(join(runDir, 'metrics.jsonl')).filter(({ type }) => type === 'step');
  await expect.poll(() => steps().length).toBe(2);
  expect(steps()[1]!.seconds).toBeGreaterThan(0);
  left.close();
  for (const id of ['w0', 'w1']) {
    run.workerExited(id, { exit: killed('SIGKILL'), again: false });
  }
  expect(await run.done).toBe(1);
});
