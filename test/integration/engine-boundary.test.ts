/**
 * The addon's engine seen from JavaScript: its size, the event loop, what is given back, and what it refuses.
 */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import type { ColumnSpec } from '../../src/native/contract.js';
import { native } from '../../src/native/load.js';
import { specOf } from '../support/arrow-files.js';
import { engineSpec, openEngine, SMALL } from '../support/engines.js';
import { temporaryFolder } from '../support/folders.js';
import { generator } from '../support/random.js';

const ADDON = resolve('build/Release/orchestrator.node');
const MIB = 2 ** 20;

/** Four rows of random numbers, and a slot of the first two. */
async function samples() {
  const {
    data: values,
    columns,
    bytes,
  } = columnsOf({
    latent: 4 * 64,
    'original.clip_l': 8 * 8,
    'original.clip_l_pooled': 4,
    'original.clip_g': 8 * 16,
    'original.clip_g_pooled': SMALL.pooledDim - 4,
    'original.t5': 8 * SMALL.contextDim,
  });
  const path = join(await temporaryFolder(), 'data.bin');
  writeFileSync(path, values);
  const data = await native().mapDataset(specOf(path, bytes, 4, columns));
  const text = {
    clipTokens: 8,
    t5Tokens: 8,
    clipLDim: 8,
    clipGDim: 16,
    t5Dim: SMALL.contextDim,
    clipLPooledDim: 4,
    clipGPooledDim: SMALL.pooledDim - 4,
  };
  const slot = {
    slot: 0,
    rows: Float64Array.of(0, 1),
    synthetic: new Uint8Array(2),
    dropped: new Uint8Array(2),
    coefficients: Float32Array.of(0.6, 0.4, -1, 1, 1, 400, 0.5, 0.5, -1, 1, 1, 500),
    sampleIds: Float64Array.of(0, 1),
  };
  return { data, text, slot };
}

function columnsOf(widths: Record<string, number>) {
  const random = generator(4);
  const values: number[] = [];
  const columns = Object.entries(widths).map(([role, width]): ColumnSpec => {
    const segments = Float64Array.of(0, 0, 4, 4 * values.length);
    for (let i = 0; i < 4 * width; i++) values.push(random() - 0.5);
    return { role, type: 'float32', width, rowBytes: 4 * width, segments };
  });
  const data = Float32Array.from(values);
  return { data, columns, bytes: data.byteLength };
}

const nothingToDo = {
  slots: [],
  totalSlots: 1,
  gradScale: 1,
  seed: 0n,
  step: 1,
  statistics: false,
  next: null,
  onBucket: () => {},
};

test('a model above 4 GiB is laid out, and looked at from end to end', async () => {
  const model = { ...SMALL, heads: 24, depth: 16, contextDim: 4096, pooledDim: 2048, posEmbedMaxSize: 4 };
  // Its pages are untouched: this takes addresses, not memory.
  const engine = await openEngine({ model, training: false });
  const { length, tensors, parameters } = engine.layout();
  expect(parameters).toBeGreaterThan(2 ** 30);
  expect(4 * length).toBeGreaterThan(4 * 2 ** 30);
  for (const { name, length } of [tensors[0]!, tensors.at(-1)!]) {
    const values = await engine.state('master', name);
    expect(values.length).toBe(length);
    values[length - 1] = 5;
    expect((await engine.state('master', name))[length - 1]).toBe(5);
  }
  await engine.close();
});

/** Threads of all processes of a user. */
function threadsOf(uid: number): number {
  let threads = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      if (Number(/^Uid:\t(\d+)/m.exec(status)?.[1]) === uid) {
        threads += Number(/^Threads:\t(\d+)/m.exec(status)?.[1]);
      }
    } catch {} // it ended meanwhile
  }
  return threads;
}

test('a process ends at once while native threads compute', () => {
  const script = `const addon = require(${JSON.stringify(ADDON)});
    void addon.matmulPeak('fp32', 256, 256, 256, 2, 600);
    setTimeout(() => addon.exitProcess(7), 50);`;
  expect(spawnSync(process.execPath, ['-e', script], { timeout: 120_000 })).toMatchObject({
    status: 7,
    signal: null,
  });
});

test('the addon is for the main thread', async () => {
  const script = `require(${JSON.stringify(ADDON)})`;
  const worker = new Worker(script, { eval: true });
  const [error] = (await once(worker, 'error')) as [Error & { code: string }];
  expect(error).toMatchObject({
    code: 'ERR_NATIVE_MISSING',
    message: expect.stringContaining('main thread'),
  });
});

test('the event loop turns while an engine is made', async () => {
  let turns = 0;
  let made = false;
  const turn = () => {
    turns++;
    if (!made) setImmediate(turn);
  };
  setImmediate(turn);
  const model = { ...SMALL, depth: 24, heads: 24, posEmbedMaxSize: 384 };
  await openEngine({ model, training: false });
  made = true;
  expect(turns).toBeGreaterThan(2);
});

describe('close()', () => {
  test('gives all memory back at once, whoever still holds a view', async () => {
    const other = await openEngine();
    const { current } = other.memory();
    const engine = await openEngine({ model: { ...SMALL, heads: 8 } });
    await engine.initialize(1n);
    const [first] = engine.layout().tensors;
    const view = await engine.state('master', first!.name);
    const positions = engine.posEmbed();
    const copy = (await engine.snapshot()).get('master')!(first!.name);
    expect(copy[0]).toBe(view[0]);
    expect(other.memory().current).toBeGreaterThan(current + 10 * MIB);
    await engine.close();
    expect(other.memory().current).toBe(current);
    for (const array of [view, positions, copy]) expect(array.length).toBe(0);
  });

  test('waits for what was asked for before', async () => {
    const engine = await openEngine();
    const { current } = engine.memory();
    const initialised = engine.initialize(1n);
    const state = engine.state('master', engine.layout().tensors[0]!.name);
    const digest = engine.digest();
    const results = Promise.allSettled([initialised, state, digest]);
    const closing = [engine.close(), engine.close()];
    const other = await openEngine();
    await Promise.all(closing);
    expect(other.memory().current).toBeLessThanOrEqual(current);
    expect((await results).map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    await expect(state).rejects.toMatchObject({ code: 'ERR_HANDLE' });
  });

  test('leaves the memory of a buffer that was transferred out of its view', async ({ skip }) => {
    if (!('transfer' in ArrayBuffer.prototype)) skip('needs Node.js 22: ArrayBuffer.prototype.transfer');
    const engine = await native().createEngine(engineSpec());
    const positions = engine.posEmbed();
    const first = positions[0];
    const moved = (positions.buffer as ArrayBuffer & { transfer(): ArrayBuffer }).transfer();
    let closed = false;
    void engine.close().then(() => {
      closed = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(new Float32Array(moved)[0]).toBe(first);
    expect(closed).toBe(false);
  });

  test('may come while arguments are converted', async () => {
    const engine = await openEngine();
    const name = engine.layout().tensors[0]!.name;
    const snapshot = (await engine.snapshot()).get('master')!;
    const closes = () => {
      void engine.close();
      return name;
    };
    const closing = { toString: closes } as unknown as string;
    expect(() => snapshot(closing)).toThrowError(expect.objectContaining({ code: 'ERR_HANDLE' }));
  });

  test('is the end of every other call', async () => {
    const engine = await openEngine();
    const [tensor] = engine.layout().tensors;
    await engine.close();
    const closed = { code: 'ERR_HANDLE' };
    const refuses = (call: () => unknown) => expect(async () => await call()).rejects.toMatchObject(closed);
    await refuses(() => engine.layout());
    await refuses(() => engine.state('master', tensor!.name));
    await refuses(() => engine.snapshot());
    await refuses(() => engine.digest());
    await refuses(() => engine.accumulate(nothingToDo));
    await engine.close();
  });

  test('leaves nothing that keeps a process alive', () => {
    const script = `
      const { createRequire } = await import('node:module');
      const addon = createRequire(process.cwd() + '/')(${JSON.stringify(ADDON)});
      const engine = await addon.createEngine(${JSON.stringify(engineSpec())});
      await engine.close();
      try {
        engine.accumulate({ slots: [], totalSlots: 1, gradScale: 1, seed: 0n, step: 1, statistics: false, next: null, onBucket() {} });
      } catch (error) {
        console.log(error.code);
      }`;
    const { stdout, status } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    expect(stdout).toBe('ERR_HANDLE\n');
    expect(status).toBe(0);
  });
});

test('a state and a copy of it are seen alike, and a digest is of all of it', async () => {
  const engine = await openEngine({ ema: true });
  await engine.initialize(7n);
  const same = await openEngine({ ema: true, threads: 2 });
  await same.initialize(7n);
  const digest = await engine.digest();
  expect(digest).toMatch(/^[0-9a-f]{32}$/);
  expect(await same.digest()).toBe(digest);
  const name = engine.layout().tensors.at(-1)!.name;
  const state = await engine.snapshot();
  expect([...state.keys()]).toEqual(['master', 'ema', 'm', 'v']);
  for (const kind of ['master', 'ema', 'm', 'v'] as const) {
    const values = await engine.state(kind, name);
    expect(state.get(kind)!(name)).toEqual(values);
    values[0] = values[0]! + 1;
    expect(await engine.digest()).not.toBe(digest);
    expect(state.get(kind)!(name)[0]).toBe(values[0]! - 1);
    values[0] = values[0]! - 1;
  }
  expect(await engine.digest()).toBe(digest);
});

describe('what cannot be is refused', () => {
  const wrong = (code: string, message = '') => ({ code, message: expect.stringContaining(message) });

  test('training with an engine for inference', async () => {
    const engine = await openEngine({ training: false });
    const update = { step: 1, lr: 0, beta1: 0, beta2: 0, eps: 1, weightDecay: 0, gradScale: 1, emaDecay: 1 };
    const inference = wrong('ERR_INTERNAL', 'created for inference only');
    expect(engine.gradientParts()).toEqual([]);
    expect(() => engine.gradient()).toThrowError(expect.objectContaining(wrong('ERR_INTERNAL')));
    await expect(engine.gradientNorm()).rejects.toMatchObject(inference);
    await expect(engine.reduce()).rejects.toMatchObject(inference);
    await expect(engine.update(update)).rejects.toMatchObject(inference);
    const batch = { z: new Float32Array(256 * 2), timestep: new Float32Array(2) };
    const text = {
      context: new Float32Array(2 * 16 * SMALL.contextDim),
      pooled: new Float32Array(2 * SMALL.pooledDim),
    };
    expect(await engine.predict({ ...batch, ...text }, 'master')).toHaveLength(512);
    const moments = async () => await engine.predict({ ...batch, ...text }, 'm' as 'master');
    await expect(moments).rejects.toMatchObject(wrong('ERR_NATIVE_ARGUMENT', 'master or ema'));
  });

  test('a gradient before there is one, and after a step that failed', async () => {
    const engine = await openEngine();
    const update = { step: 1, lr: 1, beta1: 0, beta2: 0, eps: 1, weightDecay: 0, gradScale: 1, emaDecay: 1 };
    const none = wrong('ERR_INTERNAL', 'There is no gradient');
    await expect(engine.gradientNorm()).rejects.toMatchObject(none);
    const { data, text, slot } = await samples();
    await engine.attach(data, text);
    const step = { ...nothingToDo, slots: [slot], gradScale: 0.5 };
    await engine.accumulate(step);
    expect((await engine.gradientNorm()).norm).toBeGreaterThanOrEqual(0);
    expect(engine.gradientParts()).toHaveLength(1);
    await expect(
      engine.accumulate({ ...step, slots: [{ ...slot, rows: Float64Array.of(0, 99) }] }),
    ).rejects.toMatchObject({ code: 'ERR_DATA_ROW' });
    await expect(engine.gradientNorm()).rejects.toMatchObject(none);
    await expect(engine.update(update)).rejects.toMatchObject(none);
    expect(() => engine.gradient()).toThrowError(expect.objectContaining(wrong('ERR_INTERNAL')));
    await engine.accumulate(step);
    await engine.update(update);
    for (const step of [-1, 2 ** 32, 0.5]) {
      await expect(async () => await engine.accumulate({ ...nothingToDo, step })).rejects.toMatchObject({
        code: 'ERR_NATIVE_ARGUMENT',
      });
    }
  });

  test('looking at the sums, or attaching other data, while they change: neither ends the process', async () => {
    const engine = await openEngine({ threads: 2 });
    const { data, text, slot } = await samples();
    await engine.attach(data, text);
    const slots = Array.from({ length: 8 }, (_, i) => ({ ...slot, slot: i }));
    for (let step = 1; step <= 20; step++) {
      let done = false;
      const computed = engine.accumulate({ ...nothingToDo, slots, totalSlots: 8, step }).finally(() => {
        done = true;
      });
      while (!done) {
        try {
          expect(engine.gradientParts().length).toBeLessThanOrEqual(1);
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_INTERNAL' });
        }
        void engine.attach(data, text);
        await new Promise(setImmediate);
      }
      await computed;
    }
    data.close();
  });

  test('freezing what is no range leaves all as it was', async () => {
    const engine = await openEngine();
    const { data, text, slot } = await samples();
    await engine.attach(data, text);
    await engine.initialize(3n);
    await engine.accumulate({ ...nothingToDo, slots: [slot], gradScale: 1 });
    const { norm } = await engine.gradientNorm();
    expect(norm).toBeGreaterThan(0);
    await expect(engine.freeze({ bounds: Float64Array.of(0, 1e12) })).rejects.toMatchObject({
      code: 'ERR_NATIVE_ARGUMENT',
    });
    expect((await engine.gradientNorm()).norm).toBe(norm);
  });

  test('a state that is not held, a tensor that is none', async () => {
    const engine = await openEngine();
    const { name } = engine.layout().tensors[0]!;
    const wrong = { code: 'ERR_NATIVE_ARGUMENT' };
    await expect(async () => await engine.state('ema', name)).rejects.toMatchObject({ code: 'ERR_NO_EMA' });
    await expect(async () => await engine.state('master', 'x')).rejects.toMatchObject(wrong);
    await expect(native().createEngine(engineSpec({ model: { ...SMALL, depth: 0 } }))).rejects.toMatchObject({
      code: 'ERR_MODEL_SPEC',
    });
  });

  test('words that are none', () => {
    const wrong = (name: string, words: string) =>
      expect.objectContaining({ code: 'ERR_NATIVE_ARGUMENT', message: `Expected ${words} for ${name}` });
    const planned = (other: object) => () => native().planFigures({ ...engineSpec(), ...other });
    expect(planned({ model: { ...SMALL, qkNorm: 'layer' } })).toThrow(wrong('qkNorm', 'none or rms'));
    expect(planned({ precision: 'fp16' })).toThrow(wrong('precision', 'fp32 or bf16'));
    expect(planned({ residual: 32 })).toThrow(wrong('residual', 'fp32 or bf16'));
    expect(planned({ recompute: 'all' })).toThrow(wrong('recompute', 'nothing or norms or mlp or block'));
    const column = {
      role: 'latent',
      type: 'int8' as 'float32',
      width: 4,
      rowBytes: 16,
      segments: new Float64Array(),
    };
    const rest = { files: [], rows: 0, storedRows: 0, order: null, latentShift: 0, latentScale: 1 };
    expect(() => native().mapDataset({ ...rest, columns: [column] })).toThrow(
      wrong('type', 'float16 or bfloat16 or float32 or float64'),
    );
  });

  test('numbers that are none', async () => {
    const path = join(temporaryFolder(), 'data.bin');
    writeFileSync(path, new Uint8Array(64));
    const segments = Float64Array.of(0, 0, 4, 0);
    const column: ColumnSpec = { role: 'latent', type: 'float32', width: 4, rowBytes: 16, segments };
    const data = await native().mapDataset(specOf(path, 64, 4, [column]));
    const wrong = { code: 'ERR_NATIVE_ARGUMENT' };
    for (const row of [Number.NaN, Number.POSITIVE_INFINITY, 0.5]) {
      expect(() => data.row('latent', row)).toThrowError(expect.objectContaining(wrong));
      expect(() => data.scan('latent', 0, row, 0, 1, 2)).toThrowError(expect.objectContaining(wrong));
    }
    expect(data.row('latent', 3)).toEqual(new Float32Array(4));
    data.close();
  });

  test('a group, once the state was looked at; frozen parameters, once there is a group', async () => {
    const group = () => {
      const made = native().createGroup();
      made.form([made.address], 0, 1);
      return made;
    };
    const seen = await openEngine();
    seen.posEmbed();
    await expect(async () => await seen.join(group())).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
    const asked = await openEngine();
    const [tensor] = asked.layout().tensors;
    const view = asked.state('master', tensor!.name);
    await expect(async () => await asked.join(group())).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
    expect(await view).toHaveLength(tensor!.length);
    const alone = await openEngine();
    const unformed = native().createGroup();
    await expect(alone.join(unformed)).rejects.toMatchObject({ code: 'ERR_SHARED_MEMORY' });
    const argument = expect.objectContaining({ code: 'ERR_NATIVE_ARGUMENT' });
    const { address } = unformed;
    expect(() => unformed.form(address as never, 0, 1)).toThrowError(argument);
    for (const rank of [-1, 0.5, Number.NaN, 64]) {
      expect(() => unformed.form([address], rank, 1)).toThrowError(argument);
    }
    expect(() => unformed.form([address], 0, 0)).toThrowError(argument);
    // It waits for its peer, so that it is busy.
    const [busy, peer] = [await openEngine(), await openEngine()];
    const two = [native().createGroup(), native().createGroup()];
    const addresses = two.map(({ address }) => address);
    for (const [rank, made] of two.entries()) made.form(addresses, rank, 1);
    const joined = busy.join(two[0]!);
    expect(() => busy.posEmbed()).toThrowError(expect.objectContaining({ code: 'ERR_INTERNAL' }));
    await Promise.all([joined, peer.join(two[1]!)]);
    expect(busy.posEmbed().length).toBeGreaterThan(0);
    const member = await openEngine();
    await member.join(group());
    await expect(member.freeze({ bounds: Float64Array.of(0, 16) })).rejects.toMatchObject({
      code: 'ERR_INTERNAL',
      message: expect.stringContaining('after join'),
    });
  });

  test('a process whose event loop stands, by its watchdog', () => {
    const script = `const addon = require(${JSON.stringify(ADDON)});
      console.log(JSON.stringify(addon.progress()));
      addon.startWatchdog({ leastMs: 100, times: 1, exitCode: 70 });
      addon.beat();
      for (;;);`;
    const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
    expect(JSON.parse(stdout)).toEqual({ stage: 'idle', ticks: 0 });
    expect(stderr).toMatch(/^warn this worker hangs and is ended: its event loop has stood for \d+\.\d s$/m);
    expect(status).toBe(70);
  });

  test('who has left a group, and a state that is being replaced', async () => {
    const groups = [native().createGroup(), native().createGroup()];
    const engines = [await openEngine(), await openEngine()] as const;
    const join = (ranks: number[], generation: number) => {
      const addresses = ranks.map((member) => groups[member]!.address);
      for (const [rank, member] of ranks.entries()) groups[member]!.form(addresses, rank, generation);
      return Promise.all(ranks.map((member) => engines[member]!.join(groups[member]!)));
    };
    expect(await join([0, 1], 1)).toEqual(Array(2).fill({ step: null, completed: 0 }));
    await engines[0].initialize(3n);
    await Promise.all(engines.map((engine) => engine.stateLoaded(7)));
    const digest = await engines[0].digest();
    const positions = engines[1].posEmbed();
    // Otherwise the other one would have to end it.
    groups[0]!.abort();
    await expect(engines[0].stateLoaded(8)).rejects.toMatchObject({ code: 'ERR_EXCHANGE' });
    expect(await join([1], 2)).toEqual([{ step: 7, completed: 0 }]);
    // The one that left comes back, and leads.
    expect(await join([0, 1], 3)).toEqual(Array(2).fill({ step: 7, completed: 0 }));
    expect([await engines[0].digest(), await engines[1].digest()]).toEqual([digest, digest]);
    expect(positions).toEqual(engines[0].posEmbed());
    await engines[0].replaceState();
    expect(await join([0, 1], 4)).toEqual(Array(2).fill({ step: null, completed: 0 }));
    expect(() => groups[0]!.form([groups[0]!.address], 0, 0)).toThrowError(
      expect.objectContaining({ code: 'ERR_NATIVE_ARGUMENT' }),
    );
  });

  test('more threads than there are to be had', () => {
    // Limits of processes do not hold for root, who becomes somebody else here.
    const root = process.getuid?.() === 0;
    const uid = root ? 65534 : process.getuid!();
    const path = temporaryFolder();
    chmodSync(path, 0o755);
    copyFileSync(ADDON, join(path, 'orchestrator.node'));
    writeFileSync(
      join(path, 'main.mjs'),
      `import { createRequire } from 'node:module';
      const addon = createRequire(import.meta.url)('./orchestrator.node');
      const spec = ${JSON.stringify(engineSpec())};
      for (const threads of [1000, 1]) {
        await addon.createEngine({ ...spec, threads }).then((e) => e.close()).then(() => console.log('made'), (e) => console.log(e.code, e.message));
      }`,
    );
    const node = JSON.stringify(process.execPath);
    const user = root ? `setpriv --reuid=${uid} --clear-groups ` : '';
    const command = `cd ${JSON.stringify(path)} && ulimit -u ${threadsOf(uid) + 200} && exec ${user}${node} main.mjs`;
    const { stdout, stderr, status } = spawnSync('bash', ['-c', command], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^ERR_SYSTEM No thread can be started .*\nmade\n$/);
    expect(status).toBe(0);
  });
});
