/**
 * Takes a model of SD3-medium's size (2.03 B parameters, 8.1 GB of fp32) through everything but training: it
 * is initialised, digested, written, imported, loaded, and used for one step of sampling. For each it
 * measures seconds, memory, and the longest time for which the event loop was blocked.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { openForInference } from '../src/engine/inference.js';
import { type TensorSource, writeSafetensors } from '../src/formats/safetensors/write.js';
import { RELEASED } from '../src/model/released.js';
import { officialName, POS_EMBED } from '../src/model/tensors.js';
import type { Engine, EngineSpec } from '../src/native/contract.js';
import { native } from '../src/native/load.js';
import { print } from './report.js';

const execute = promisify(execFile);
const NAME = 'SD3-medium';
const CLI = resolve('dist/cli/main.js');
const TICK_MS = 5;
/** 256 x 256 pixels, and the tokens of CLIP and T5. */
const SHAPE = { latentHeight: 32, latentWidth: 32, contextTokens: 154 };

/** @param parent Folder for two files of 8.3 GB, which are removed at the end. */
export async function benchLarge(parent: string, threads: number): Promise<void> {
  print(`\n## ${NAME}'s size\n`);
  const folder = mkdtempSync(join(parent, 'orchestrator-large-'));
  try {
    const [written, imported] = [join(folder, 'written.safetensors'), join(folder, 'imported.safetensors')];
    const digest = await write(written, threads);
    await timed('import, in a process', () =>
      execute(process.execPath, [CLI, 'model', 'import', written, '--out', imported]),
    );
    await use(imported, digest, threads);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function write(path: string, threads: number): Promise<string> {
  const spec: EngineSpec = {
    model: RELEASED[NAME]!,
    ...SHAPE,
    microBatch: 1,
    precision: 'fp32',
    residual: 'fp32',
    linear: 'compute',
    recompute: 'nothing',
    threads,
    threadsPerSlot: threads,
    device: null,
    training: false,
    optimizer: 'adamw',
    ema: false,
  };
  const engine = await timed('create the engine', () => native().createEngine(spec));
  await timed('initialise', () => engine.initialize(1n));
  // The final layer is zero at the start of training, and would make the velocity zero.
  (await engine.state('master', 'final_layer.linear.weight')).forEach((_, i, values) => {
    values[i] = 0.02 * Math.sin(i);
  });
  const digest = await timed('digest', () => engine.digest());
  await timed('write', () => writeSafetensors(path, tensorsOf(engine), { format: 'pt' }));
  await timed('close', () => engine.close());
  return digest;
}

function tensorsOf(engine: Engine): TensorSource[] {
  const { posEmbed, tensors } = engine.layout();
  return [
    { name: officialName(POS_EMBED), dtype: 'F32', shape: posEmbed.shape, data: engine.posEmbed() },
    ...tensors.map(({ name, shape }): TensorSource => {
      const data = async function* () {
        yield await engine.state('master', name);
      };
      return { name: officialName(name), dtype: 'F32', shape, data };
    }),
  ];
}

async function use(path: string, digest: string, threads: number): Promise<void> {
  const { latentHeight, latentWidth, contextTokens } = SHAPE;
  const model = await timed('load', () =>
    openForInference(path, {
      weights: 'master',
      latentSize: [latentHeight, latentWidth],
      contextTokens,
      microBatch: 1,
      threads,
      precision: 'auto',
      device: 'cpu',
    }),
  );
  if ((await timed('digest', () => model.engine.digest())) !== digest) throw new Error('the weights differ');
  const values = (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i));
  const { latentChannels, contextDim, pooledDim } = model.spec.model;
  const batch = {
    z: values(latentChannels * latentHeight * latentWidth),
    timestep: Float32Array.of(700),
    context: values(contextTokens * contextDim),
    pooled: values(pooledDim),
  };
  const velocity = await timed(`one step of sampling (${model.spec.precision})`, () =>
    model.engine.predict(batch, 'master'),
  );
  if (!velocity.every(Number.isFinite) || velocity.every((v) => v === 0)) throw new Error('no velocity');
  await timed('close', () => model.close());
}

async function timed<T>(name: string, work: () => Promise<T>): Promise<T> {
  let held = 0;
  let last = performance.now();
  const look = () => {
    const now = performance.now();
    held = Math.max(held, now - last - TICK_MS);
    last = now;
  };
  const timer = setInterval(look, TICK_MS);
  const started = last;
  const result = await work();
  look();
  clearInterval(timer);
  const seconds = (last - started) / 1000;
  print(
    `${name.padEnd(28)} ${seconds.toFixed(2).padStart(7)} s, resident ${resident('VmRSS')}, at most ${resident('VmHWM')}, event loop held ${held.toFixed(0)} ms at most`,
  );
  return result;
}

function resident(field: 'VmRSS' | 'VmHWM'): string {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync('/proc/self/status', 'utf8'));
  return `${(Number(found?.[1]) / 2 ** 20).toFixed(2)} GiB`;
}
