/** What the addon's engine refuses when it is called from JavaScript. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { ColumnSpec } from '../../src/native/contract.js';
import { native } from '../../src/native/load.js';
import { specOf } from '../support/arrow-files.js';
import { engineSpec, openEngine, SMALL } from '../support/engines.js';
import { temporaryFolder } from '../support/folders.js';
import { nothingToDo, samples } from '../support/samples.js';

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
    expect(planned({ linear: 'int8' })).toThrow(wrong('linear', 'compute or fp8'));
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

  test('who has left a group', async () => {
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
    expect(() => groups[0]!.form([groups[0]!.address], 0, 0)).toThrowError(
      expect.objectContaining({ code: 'ERR_NATIVE_ARGUMENT' }),
    );
  });
});
