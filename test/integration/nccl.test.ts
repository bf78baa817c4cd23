/**
 * Workers on GPUs of their own whose gradients go from one to the other, on emulated GPUs: these have a
 * transport between processes in the place of NCCL. What is above it, from the configuration to the order of
 * calls, is what runs on GPUs.
 */
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { temporaryFolder } from '../support/folders.js';
import { allDead, ends, fingerprint, isAlive, Launched, launch, readLines } from '../support/launched.js';
import { PACED } from '../support/paced.js';

const STEPS = 2;
/** Five slots, which no number of workers but one divides. The emulator is slow. */
const SETTINGS = [
  'device=cuda',
  'precision.compute=fp32',
  'model.depth=1',
  'model.hidden=64',
  'model.dual_attention=[]',
  'batch.global=5',
  'batch.micro=1',
  `schedule.steps=${STEPS}`,
  'schedule.warmup=1',
  'data.validation_rows=2',
  'validation.every=0',
  'telemetry.attention_every=0',
  'checkpoint.every=0',
].flatMap((set) => ['--set', set]);
const exchange = (value: string) => ['--set', `exchange=${value}`];

const folder = temporaryFolder();
const one = join(folder, 'one');

beforeAll(async () => {
  process.env.ORCHESTRATOR_CUDA = resolve('build/Release/liborchestrator_cuda_emulated.so');
  process.env.ORCHESTRATOR_EMULATED_GPUS = '3';
  await ends(launch(one, 1, ...SETTINGS), 0);
});
afterAll(() => {
  delete process.env.ORCHESTRATOR_CUDA;
  delete process.env.ORCHESTRATOR_EMULATED_GPUS;
});

/** Bytes that every worker received in the last step. */
function received(runDir: string): number[] {
  const step = readLines(join(runDir, 'metrics.jsonl')).findLast(({ type }) => type === 'step');
  return (step as { workers: { exchange_bytes: number }[] }).workers.map((worker) => worker.exchange_bytes);
}

test.each([
  [2, 'auto'],
  [3, 'nccl'],
])('%i workers, exchange: %s: the bits of one worker', async (nodes, value) => {
  const runDir = join(folder, `${value}-${nodes}`);
  const { output } = await ends(launch(runDir, nodes, ...SETTINGS, ...exchange(value)), 0);
  expect(output).not.toContain('exchange over gRPC');
  expect(fingerprint(runDir, STEPS)).toEqual(fingerprint(one, STEPS));
  for (const bytes of received(runDir)) expect(bytes).toBeGreaterThan(0);
});

test('four workers on three GPUs: auto takes gRPC and says why, to the same bits; nccl is an error', async () => {
  const runDir = join(folder, 'auto-4');
  const { output } = await ends(launch(runDir, 4, ...SETTINGS), 0);
  expect(output).toContain(
    'exchange over gRPC, because GPUs cannot be connected: ranks 0 and 3 share GPU-emulated-0',
  );
  expect(fingerprint(runDir, STEPS)).toEqual(fingerprint(one, STEPS));
  const refused = await ends(launch(join(folder, 'nccl-4'), 4, ...SETTINGS, ...exchange('nccl')), 1);
  expect(refused.output).toMatch(/^error ERR_CUDA: .*ranks 0 and 3 share GPU 0$/m);
  // A worker's hint is a line of its own, as if the launcher itself had failed.
  expect(refused.output).toMatch(/^hint: exchange: auto uses gRPC when GPUs cannot be connected$/m);
});

test('a worker that is killed is left out, and the others connect their GPUs again', async () => {
  const runDir = join(folder, 'killed');
  const options = [...SETTINGS, '--set', 'schedule.steps=1000', '--set', 'schedule.decay=constant'];
  const flags = ['--nodes', '3', ...options, ...exchange('nccl'), '--max-restarts', '0'];
  const run = new Launched(runDir, PACED, ...flags);
  await run.steps(2);
  const pids = [run.process.pid as number, run.coordinator(), ...run.workers()];
  process.kill(run.workers()[1] as number, 'SIGKILL');
  await run.says('2 workers go on');
  await run.says('the run continues after step');
  await run.steps(run.stepsDone() + 1);
  run.process.kill('SIGTERM');
  await ends(run.outcome, 143);
  expect(await allDead(pids), pids.filter(isAlive).join(' ')).toBe(true);
  for (const bytes of received(runDir)) expect(bytes).toBeGreaterThan(0);
  const { step } = readLines(join(runDir, 'ledger.jsonl')).at(-1) as { step: number };
  const same = join(folder, 'undisturbed');
  await ends(launch(same, 1, ...options, '--set', `schedule.steps=${step}`), 0);
  expect(fingerprint(runDir, step)).toEqual(fingerprint(same, step));
});
