/**
 * Runs with `device: cuda` on the emulated GPU, which has the entry points of the real one's library and runs
 * the same kernels on the CPU: what is above the device is what runs on a GPU.
 */
import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { loadConfig } from '../../src/config/load.js';
import { openForInference } from '../../src/engine/inference.js';
import { native } from '../../src/native/load.js';
import { estimate } from '../../src/planning/estimate.js';
import { faultyDisk, noFaultyDisk } from '../support/faulty-disk.js';
import { temporaryFolder } from '../support/folders.js';
import {
  allDead,
  ends,
  fingerprint,
  isAlive,
  Launched,
  launch,
  readLines,
  TRAINING,
} from '../support/launched.js';
import { because } from '../support/needs.js';
import { orchestrator, orchestratorIn, succeeds } from '../support/program.js';

const LIBRARY = resolve('build/Release/liborchestrator_cuda_emulated.so');
const NAME = 'emulated GPU (runs on the CPU, for tests)';
const STEPS = 4;
/** Three slots, which two workers do not divide. The emulator is slow. */
const TINY = [
  'model.hidden=64',
  'model.dual_attention=[]',
  'batch.global=3',
  'batch.micro=1',
  `schedule.steps=${STEPS}`,
  'schedule.warmup=1',
  'schedule.decay=constant',
  'data.validation_rows=1',
  'validation.every=2',
  'validation.bins=2',
  'telemetry.attention_every=2',
  'checkpoint.every=2',
  'checkpoint.keep=3',
].flatMap((set) => ['--set', set]);
const FP32 = [...TINY, '--set', 'precision.compute=fp32'];
const CUDA = ['--set', 'device=cuda'];
/** For what does not touch on validation, whose many passes take longer than the steps. */
const UNVALIDATED = ['--set', 'validation.every=0'];
/** Relative, of losses and of gradient norms in fp32; 1.5e-8 was seen. */
const BOUND = 1e-6;

const folder = temporaryFolder();
const [one, host] = [join(folder, 'one'), join(folder, 'host')];
const run = (...parameters: string[]) => succeeds(orchestrator(...parameters));
const step2 = (runDir: string) => join(runDir, 'checkpoints', 'step-00000002');

beforeAll(async () => {
  process.env.ORCHESTRATOR_CUDA = LIBRARY;
  const { output } = await ends(launch(one, 1, ...FP32, ...CUDA), 0);
  expect(output).toContain(`rank 0 on ${NAME}, GPU 0 of 1`);
  await ends(launch(host, 1, ...FP32), 0);
});
afterAll(() => {
  delete process.env.ORCHESTRATOR_CUDA;
});

/** [loss, gradient norm] of the steps from `first` on. */
function series(runDir: string, first = 1): number[][] {
  return readLines(join(runDir, 'metrics.jsonl'))
    .filter(({ type, step }) => type === 'step' && (step as number) >= first)
    .map(({ loss, gradient_norm }) => [loss as number, gradient_norm as number]);
}

/** Rank 0's part of the last step. */
function lastWorker(runDir: string): Record<string, unknown> {
  const steps = readLines(join(runDir, 'metrics.jsonl')).filter(({ type }) => type === 'step');
  return (steps.at(-1) as { workers: Record<string, unknown>[] }).workers[0]!;
}

function expectClose(got: number[][], wanted: number[][]): void {
  expect(got.length).toBe(wanted.length);
  for (const [i, values] of wanted.entries())
    for (const [j, value] of values.entries())
      expect(Math.abs(got[i]![j]! / value - 1), `step ${i + 1}: ${got[i]} and ${values}`).toBeLessThan(BOUND);
}

/** The memory that rank 0's device holds is that of the estimate. */
async function expectEstimated(runDir: string, parameters: string[]): Promise<void> {
  const sets = parameters.filter((word) => word !== '--set');
  const { gpuMemory } = await estimate(native(), loadConfig(TRAINING, sets, {}), 1, null);
  // The emulator multiplies without a workspace.
  const parts = gpuMemory!.filter(({ name }) => !name.startsWith('workspace'));
  const estimated = parts.reduce((sum, { bytes }) => sum + bytes, 0);
  const held = lastWorker(runDir).device_bytes as number;
  expect(estimated / held).toBeGreaterThan(0.9);
  expect(estimated / held).toBeLessThan(1.1);
}

test("losses, gradient norms and validation are the CPU's", () => {
  expectClose(series(one), series(host));
  const means = (runDir: string) =>
    readLines(join(runDir, 'metrics.jsonl'))
      .filter(({ type }) => type === 'validation')
      .map(({ val_ema, val_master }) => [val_ema as number, val_master as number]);
  expect(means(one).length).toBe(2);
  expectClose(means(one), means(host));
});

test('two workers share the device over gRPC, to the same bits', async () => {
  const runDir = join(folder, 'two');
  const { output } = await ends(launch(runDir, 2, ...FP32, ...CUDA), 0);
  expect(output).toContain(`rank 0 on ${NAME}, GPU 0 of 1; rank 1 on ${NAME}, GPU 0 of 1`);
  expect(fingerprint(runDir, STEPS)).toEqual(fingerprint(one, STEPS));
});

const killed = 'killed, and resumed with another number of workers: the same bits';
test.skipIf(noFaultyDisk)(because(killed, noFaultyDisk), async () => {
  const runDir = join(folder, 'killed');
  // The last checkpoint cannot be completed, so the run does not end before it is killed.
  faultyDisk('.partial-step-00000004', 'slow', join(folder, 'never'));
  const run = new Launched(runDir, 1, ...FP32, ...CUDA, '--max-restarts', '0');
  vi.unstubAllEnvs();
  await run.says('checkpoint of step 2 in');
  // Which comes after the checkpoint, and would not be repeated.
  await run.says('noise error at step 2');
  const pids = [run.process.pid as number, run.coordinator(), ...run.workers()];
  process.kill(run.workers()[0] as number, 'SIGKILL');
  expect((await run.outcome).code).not.toBe(0);
  expect(await allDead(pids), pids.filter(isAlive).join(' ')).toBe(true);
  const { output } = await ends(launch(runDir, 2, ...FP32, ...CUDA), 0);
  expect(output).toMatch(/resuming from .*step-00000002/);
  expect(output).not.toMatch(/other arithmetic/);
  expect(fingerprint(runDir, STEPS)).toEqual(fingerprint(one, STEPS));
});

test('a kernel that hangs on the GPU is ended by the watchdog, and the step run again', async () => {
  const [runDir, longer] = [join(folder, 'hangs'), join(folder, 'longer')];
  const hang = join(folder, 'hang');
  // Steps are left, also if the file comes late.
  const steps = 8;
  const more = [...FP32, ...CUDA, ...UNVALIDATED, '--set', `schedule.steps=${steps}`];
  cpSync(one, longer, { recursive: true });
  await ends(launch(longer, 1, ...more), 0);
  vi.stubEnv('ORCHESTRATOR_EMULATED_HANG', hang);
  vi.stubEnv('ORCHESTRATOR_WATCHDOG', '5000:5');
  const run = new Launched(runDir, 2, ...more);
  vi.unstubAllEnvs();
  await run.steps(1);
  writeFileSync(hang, '');
  const { output } = await ends(run.outcome, 0);
  expect(existsSync(hang)).toBe(false);
  expect(output).toMatch(/warn \[worker \d\] this worker hangs and is ended: .* for \d+\.\d s/);
  expect(output).toMatch(/rank [01] .* hung at step \d+ and was ended by its watchdog/);
  // That which went before had two.
  expect(fingerprint(runDir, steps)).toEqual({ ...fingerprint(longer, steps), validation: [] });
});

test('bf16, attention by a library: one and two workers have the same bits, with and without statistics', async () => {
  vi.stubEnv('ORCHESTRATOR_CUDA_ATTENTION', 'cudnn');
  const bf16 = [...TINY, ...CUDA, '--set', 'schedule.steps=2', '--set', 'precision.compute=auto'];
  const runs = [1, 2].map((nodes) => ({ nodes, runDir: join(folder, `bf16-${nodes}`) }));
  for (const { nodes, runDir } of runs) {
    const statistics = ['--set', `telemetry.attention_every=${nodes - 1}`];
    const { output } = await ends(launch(runDir, nodes, ...bf16, ...statistics), 0);
    expect(output).toContain(
      'in bf16 (auto: cuda multiplies bf16 at full speed), attention by an emulated library;',
    );
  }
  vi.unstubAllEnvs();
  const [plain, measured] = runs.map(({ runDir }) => fingerprint(runDir, 2));
  // The norms of blocks are recorded where statistics are.
  expect(measured!.blockNorms).toHaveLength(2);
  expect({ ...plain, blockNorms: measured!.blockNorms }).toEqual(measured);
});

test('fp8: one and two workers have the same bits, and the memory is as estimated', async () => {
  const sets = ['schedule.steps=2', 'validation.every=0', 'precision.linear=fp8'];
  const parameters = [...TINY, ...CUDA, ...sets.flatMap((set) => ['--set', set])];
  const [alone, pair] = ['alone', 'pair'].map((name) => join(folder, `fp8-${name}`));
  const { output } = await ends(launch(alone!, 1, ...parameters), 0);
  expect(output).toContain('qkv, proj, fc1 and fc2 of all blocks in fp8 (E4M3; gradients E5M2)');
  await ends(launch(pair!, 2, ...parameters), 0);
  expect(fingerprint(pair!, 2)).toEqual(fingerprint(alone!, 2));
  await expectEstimated(alone!, parameters);
  const manifest = JSON.parse(readFileSync(join(step2(alone!), 'manifest.json'), 'utf8'));
  expect(manifest.versions.precision).toBe('bf16 with fp8 linear layers');
});

test('slots of two micro-batches: the same bits of two workers, and the numbers of the CPU', async () => {
  const accumulated = [...FP32, ...UNVALIDATED, '--set', 'batch={global: 4, micro: 1, accumulate: 2}'];
  const two = ['--set', 'schedule.steps=2'];
  const [alone, pair, cpu] = ['alone', 'pair', 'cpu'].map((name) => join(folder, `accumulated-${name}`));
  // Its checkpoint is copied into memory that is not page-locked.
  vi.stubEnv('ORCHESTRATOR_EMULATED_PAGE_LOCKS', '0');
  const { output } = await ends(launch(alone!, 1, ...accumulated, ...two, ...CUDA), 0);
  vi.unstubAllEnvs();
  const why = 'the memory for checkpoints cannot be page-locked (No more memory can be page-locked)';
  expect(output.split(why)).toHaveLength(2);
  await ends(launch(pair!, 2, ...accumulated, ...two, ...CUDA), 0);
  await ends(launch(cpu!, 1, ...accumulated, ...two), 0);
  expect(fingerprint(pair!, 2)).toEqual(fingerprint(alone!, 2));
  expectClose(series(alone!), series(cpu!));
});

test('checkpoints go on from the CPU to the device, and back', async () => {
  for (const [from, to, there, here] of [
    [host, CUDA, 'cpu', NAME],
    [one, [], NAME, 'cpu'],
  ] as const) {
    const runDir = join(folder, `from-${from === host ? 'host' : 'device'}`);
    const { output } = await ends(
      launch(runDir, 1, ...FP32, ...UNVALIDATED, ...to, '--resume', step2(from)),
      0,
    );
    expect(output).toContain(`other arithmetic (device ${there} there, ${here} here`);
    expectClose(series(runDir), series(host, 3));
  }
});

test('what a run records of its device: name and memory, as estimated', async () => {
  const worker = lastWorker(one);
  expect(worker.device).toBe(`${NAME}, GPU 0 of 1`);
  await expectEstimated(one, [...FP32, ...CUDA]);
  expect(lastWorker(host)).not.toHaveProperty('device');
  const manifest = JSON.parse(readFileSync(join(step2(one), 'manifest.json'), 'utf8'));
  expect(manifest.versions).toMatchObject({ device: NAME, precision: 'fp32' });
});

test('doctor, launch --dry-run, estimate and profile know the device', () => {
  expect(run('doctor')).toContain(`on: GPU 0: ${NAME}, 4.0 GiB; no CUDA, no cuBLASLt`);
  const plan = run('launch', TRAINING, '--nodes', '2', '--dry-run', ...FP32, ...CUDA);
  expect(plan).toMatch(/^rank 1 +slots 1-2 \(2 samples\), GPU 0 \(emulated GPU/m);
  expect(plan).toMatch(/LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 ORCHESTRATOR_GPU=1 .* worker --credential -$/m);
  const page = run('estimate', TRAINING, ...FP32, ...CUDA);
  expect(page).toMatch(/^GPU memory of a worker \(rank 0\) with activation_checkpointing: nothing\n/m);
  expect(page).toContain('1 worker with a GPU each');
  const profile = JSON.parse(run('profile', TRAINING, '--json', '--repeats', '1', ...FP32, ...CUDA));
  expect(profile.gpu).toBe(NAME);
  expect(profile.attention).toBe('own kernels (fp32)');
  expect(profile.seconds).toBeGreaterThan(0);
  expect(profile.roofline.flops).toBeGreaterThan(0);
});

test('a checkpoint samples on the device as on the CPU', async () => {
  const velocity = async (device: 'cpu' | 'cuda') => {
    const options = { weights: 'ema', latentSize: null, contextTokens: null, microBatch: 2 } as const;
    const model = await openForInference(one, { ...options, threads: 1, precision: 'fp32', device });
    try {
      const { latentHeight: height, latentWidth: width, contextTokens, model: m } = model.spec;
      const values = (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i));
      const z = values(3 * m.latentChannels * height * width);
      const [context, pooled] = [values(3 * contextTokens * m.contextDim), values(3 * m.pooledDim)];
      return await model.engine.predict({ z, timestep: values(3).map(Math.abs), context, pooled }, 'master');
    } finally {
      await model.close();
    }
  };
  const [got, wanted] = [await velocity('cuda'), await velocity('cpu')];
  const norm = (values: Float32Array) => Math.hypot(...values);
  expect(norm(wanted)).toBeGreaterThan(1e-3);
  expect(norm(got.map((value, i) => value - wanted[i]!))).toBeLessThan(1e-5 * norm(wanted));
});

test('what cannot be is refused before anything starts', () => {
  const refused = (env: Record<string, string>, ...sets: string[]) => {
    const runDir = join(folder, 'refused');
    const parameters = ['--run-dir', runDir, ...CUDA, ...sets.flatMap((set) => ['--set', set])];
    const { status, stderr } = orchestratorIn({ env }, 'launch', TRAINING, ...parameters);
    expect(existsSync(runDir)).toBe(false);
    return `${status} ${stderr}`;
  };
  expect(refused({}, 'exchange=shared')).toMatch(
    /^2 error ERR_CONFIG: [\s\S]*exchange: expected auto, nccl or grpc, because device is cuda/,
  );
  expect(refused({}, 'threads_per_slot=2')).toMatch(/^2 [\s\S]*threads_per_slot: expected null/);
  const missing = refused({ ORCHESTRATOR_CUDA: '/missing/liborchestrator_cuda.so' });
  expect(missing).toMatch(
    /^1 error ERR_CUDA: device: cuda needs a GPU\. CUDA is off: ORCHESTRATOR_CUDA names \/missing\/\S+, which is not there/,
  );
  expect(missing).toMatch(
    /^hint: unset ORCHESTRATOR_CUDA, or let it name the library; `orchestrator doctor` shows/m,
  );
  expect(refused({ LOCAL_RANK: 'first' })).toMatch(/^2 error ERR_USAGE: ORCHESTRATOR_GPU, LOCAL_RANK/);
});
