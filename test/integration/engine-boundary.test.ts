/**
 * The addon's engine seen from JavaScript: its size, its process and threads, the event loop, and what is given
 * back.
 */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { native } from '../../src/native/load.js';
import { probeArithmetic } from '../../src/worker/probe.js';
import { engineSpec, openEngine, SMALL } from '../support/engines.js';
import { temporaryFolder } from '../support/folders.js';
import { nothingToDo } from '../support/samples.js';

const ADDON = resolve('build/Release/orchestrator.node');
const MIB = 2 ** 20;

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
    const copy = (await engine.snapshot()).state.get('master')!(first!.name);
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
    const snapshot = (await engine.snapshot()).state.get('master')!;
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

test('a process computes with another instruction set as soon as no engine is open, with the bits of that set', async () => {
  const { isa } = native().host();
  const probes: string[] = [];
  const sets = native().instructionSets();
  for (const other of [...sets, ...sets]) {
    native().useInstructionSet(other);
    expect(native().host().isa).toBe(other);
    probes.push(await probeArithmetic(engineSpec()));
  }
  expect(probes.slice(sets.length)).toEqual(probes.slice(0, sets.length));
  // Those of ARM64 differ in bf16 alone.
  if (sets.length > 1 && process.arch === 'x64') expect(probes[0]).not.toBe(probes.at(-1));
  const engine = await openEngine();
  native().useInstructionSet(sets.at(-1)!);
  const refused = (isa: string, code: string) =>
    expect(() => native().useInstructionSet(isa)).toThrow(expect.objectContaining({ code }));
  if (sets.length > 1) refused(sets[0]!, 'ERR_INTERNAL');
  refused('none', 'ERR_ISA');
  await engine.close();
  native().useInstructionSet(isa);
  expect(native().host().isa).toBe(isa);
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
  const { state, pageable } = await engine.snapshot();
  expect(pageable).toBe(null);
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

test('a process whose event loop stands is ended by its watchdog', () => {
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

test('more threads than there are to be had are refused', () => {
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
