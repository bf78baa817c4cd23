/**
 * Weights to start from: with QK-norm added, a larger grid of positions, and parameters that stay as they
 * are.
 */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.js';
import { openDataset } from '../../src/data/dataset.js';
import { type Case, readCase } from '../../src/engine/case.js';
import { loadWeights } from '../../src/engine/load.js';
import { trainingEngine } from '../../src/engine/spec.js';
import { startFrom } from '../../src/engine/start.js';
import { Safetensors } from '../../src/formats/safetensors/file.js';
import { frozenBounds, frozenNames } from '../../src/model/freeze.js';
import { OFFICIAL_PREFIX } from '../../src/model/tensors.js';
import { Weights, withWeights } from '../../src/model/weights.js';
import type { Engine, EngineSpec, ModelSpec, RawBatch } from '../../src/native/contract.js';
import { native } from '../../src/native/load.js';
import { objectiveOf } from '../../src/objective/objective.js';
import { firstSegment, SamplePlan } from '../../src/step/plan.js';
import { SlotBatches } from '../../src/step/slot.js';
import { calibrationBatch } from '../../src/worker/calibration.js';
import { engineSpec } from '../support/engines.js';
import { temporaryFolder } from '../support/folders.js';
import { ends, fingerprint, launch, TRAINING } from '../support/launched.js';

const FIXTURES = new URL('../fixtures/mmdit/', import.meta.url).pathname;
/** Without QK-norm. */
const WEIGHTS = join(FIXTURES, 'sd3-medium-like.weights.safetensors');
const folder = temporaryFolder();

async function fixture(): Promise<{ model: ModelSpec; input: Case }> {
  const weights = await Weights.open(WEIGHTS);
  const model = weights.spec;
  await weights.close();
  return { model, input: await readCase(join(FIXTURES, 'sd3-medium-like.case.safetensors'), model) };
}

function specOf(model: ModelSpec, { latentHeight, latentWidth, contextTokens }: Case): EngineSpec {
  const shape = { latentHeight, latentWidth, contextTokens, microBatch: 1 };
  return engineSpec({ model, ...shape, threads: 2, training: false });
}

async function withEngine<T>(spec: EngineSpec, use: (engine: Engine) => Promise<T>): Promise<T> {
  const engine = await native().createEngine(spec);
  try {
    return await use(engine);
  } finally {
    await engine.close();
  }
}

/** A copy of the master weights, in the layout. */
async function flatMaster(engine: Engine): Promise<Float32Array> {
  const { length, tensors } = engine.layout();
  const flat = new Float32Array(length);
  for (const { name, offset } of tensors) flat.set(await engine.state('master', name), offset);
  return flat;
}

const never = (): RawBatch => {
  throw new Error('no calibration was needed');
};

describe('QK-norm that the weights lack', () => {
  test('is added with the measured RMS, so that the function changes far less than with gammas of 1', async () => {
    const { model, input } = await fixture();
    const spec = specOf({ ...model, qkNorm: 'rms' }, input);
    await withEngine(spec, async (engine) => {
      const notes = await startFrom(engine, spec, WEIGHTS, () => input.batch);
      // The reported change is the change.
      const plain = { ...spec, model };
      const reference = await withEngine(plain, async (other) => {
        await withWeights(WEIGHTS, (weights) => loadWeights(other, weights));
        return await other.predict(input.batch, 'master');
      });
      const found = await engine.predict(input.batch, 'master');
      const norm = (values: Float32Array) => Math.hypot(...values);
      const change = norm(found.map((value, i) => value - reference[i]!)) / norm(reference);
      const told =
        /Added QK-norm with gammas of .* the velocity changes by (.*) % \(with gammas of 1 by (.*) %\)/;
      const [calibrated, ones] = told.exec(notes.join())!.slice(1).map(Number);
      expect(calibrated).toBe(Number((100 * change).toPrecision(3)));
      expect(calibrated).toBeGreaterThan(0);
      expect(calibrated).toBeLessThan(ones! / 2);
    });
  });

  test.each([1, 3])('measures the RMS of queries and keys (%i samples at a time)', async (microBatch) => {
    const { model, input } = await fixture();
    await withEngine({ ...specOf(model, input), microBatch }, async (engine) => {
      await withWeights(WEIGHTS, (weights) => loadWeights(engine, weights));
      // Without weights, queries and keys are their biases.
      const attention = 'joint_blocks.1.context_block.attn';
      (await engine.state('master', `${attention}.qkv.weight`)).fill(0);
      const bias = await engine.state('master', `${attention}.qkv.bias`);
      const third = bias.length / 3;
      for (let i = 0; i < bias.length; i++) bias[i] = Math.floor(i / third) + 1 + (i % 2);
      await engine.parametersChanged();
      const all = await engine.queryKeyRms(input.batch, 'master');
      expect(all).toHaveLength(2 * model.depth);
      const found = all.find((entry) => entry.attention === attention)!;
      // Queries are 1 and 2 in turn, keys 2 and 3.
      expect(found.query).toBeCloseTo(Math.sqrt((1 + 4) / 2), 5);
      expect(found.key).toBeCloseTo(Math.sqrt((4 + 9) / 2), 5);
    });
  });

  test('is not taken away, and nothing else may differ', async () => {
    const { model, input } = await fixture();
    const refused = { code: 'ERR_CHECKPOINT_MISMATCH' };
    const other = join(FIXTURES, 'sd35-large-like.weights.safetensors');
    const weights = await Weights.open(other);
    await weights.close();
    const plain = { ...weights.spec, qkNorm: 'none' as const };
    await withEngine(specOf(plain, input), async (engine) => {
      await expect(startFrom(engine, specOf(plain, input), other, never)).rejects.toMatchObject(refused);
    });
    const deeper = specOf({ ...model, qkNorm: 'rms', depth: model.depth + 1 }, input);
    await withEngine(deeper, async (engine) => {
      await expect(startFrom(engine, deeper, WEIGHTS, never)).rejects.toMatchObject(refused);
    });
  });
});

describe('a larger grid of positions', () => {
  test('gives the same velocity, bit by bit, at the old sizes', async () => {
    const { model, input } = await fixture();
    const run = (size: number) => {
      const spec = specOf({ ...model, posEmbedMaxSize: size }, input);
      return withEngine(spec, async (engine) => {
        const notes = await startFrom(engine, spec, WEIGHTS, never);
        const velocity = await engine.predict(input.batch, 'master');
        return { notes, velocity: Buffer.from(velocity.buffer) };
      });
    };
    const before = await run(model.posEmbedMaxSize);
    const after = await run(model.posEmbedMaxSize + 6);
    expect(before.notes).toEqual([]);
    expect(after.notes[0]).toMatch(/^Extended the position grid from .* \(computed\)$/);
    expect(after.velocity.equals(before.velocity)).toBe(true);
  });
});

describe('frozen parameters', () => {
  test('stay bit by bit, and do not count in the norm', async () => {
    const config = loadConfig(TRAINING, [], {});
    const dataset = await openDataset(config.data);
    const plan = new SamplePlan([
      firstSegment(dataset.hash, dataset.rows, config.data.validation_rows, config.seed),
    ]);
    const rows = await native().mapDataset(dataset.spec);
    const { spec } = trainingEngine(config, dataset, native().host(), 1);
    const patterns = ['*.attn.*', 'x_embedder.proj.bias'];
    const update = {
      step: 1,
      lr: 1e-3,
      beta1: 0.9,
      beta2: 0.999,
      eps: 1e-8,
      weightDecay: 0.1,
      gradScale: 1,
      emaDecay: 0.9,
    };
    const step = (frozen: boolean) =>
      withEngine(spec, async (engine) => {
        await engine.attach(rows, dataset.text);
        await engine.initialize(1n);
        // Initial gates are zero, and with them most gradients.
        const layout = engine.layout();
        for (const { name } of layout.tensors) {
          const values = await engine.state('master', name);
          for (let i = 0; i < values.length; i++) values[i] = values[i]! + 0.02 * Math.sin(i);
        }
        await engine.parametersChanged();
        const before = await flatMaster(engine);
        if (frozen) await engine.freeze({ bounds: frozenBounds(layout, patterns) });
        const options = {
          totalSlots: 1,
          gradScale: 0.25,
          seed: 1n,
          step: 1,
          statistics: false,
          next: null,
          onBucket: () => {},
        };
        const slots = [
          new SlotBatches(config, objectiveOf(config.objective), plan, dataset.hasSynthetic).training(1, 0),
        ];
        await engine.accumulate({ slots, ...options });
        const gradient = new Float32Array(layout.length);
        for (const [i, values] of engine.gradient().entries())
          gradient.set(values, layout.buckets[i]!.offset);
        const { norm } = await engine.gradientNorm();
        await engine.update(update);
        return { before, after: await flatMaster(engine), gradient, norm, layout };
      });
    const free = await step(false);
    const { before, after, gradient, norm, layout } = await step(true);
    const names = frozenNames(
      layout.tensors.map(({ name }) => name),
      patterns,
    );
    expect(names.size).toBeGreaterThan(10);
    let squares = 0;
    for (const { name, offset, length } of layout.tensors) {
      const range = (array: Float32Array) => Buffer.from(array.slice(offset, offset + length).buffer);
      if (names.has(name)) {
        expect(range(after).equals(range(before)), name).toBe(true);
        expect(range(free.after).equals(range(before)), name).toBe(false);
      } else {
        // Adam's first step does not depend on the others' gradients.
        expect(range(after).equals(range(free.after)), name).toBe(true);
        for (let i = offset; i < offset + length; i++) squares += gradient[i]! ** 2;
      }
    }
    expect(norm / Math.sqrt(squares)).toBeCloseTo(1, 6);
    expect(norm).toBeLessThan(free.norm);
  });

  test('are refused where the ranges are no ranges', async () => {
    const { model, input } = await fixture();
    await withEngine(specOf(model, input), async (engine) => {
      for (const bounds of [[5, 4], [0, 10, 5, 20], [0, 1e9], [1]]) {
        await expect(async () => engine.freeze({ bounds: Float64Array.from(bounds) })).rejects.toThrow();
      }
    });
  });
});

describe('a run', () => {
  test('starts from weights without QK-norm, freezes, and is the same on two nodes', {
    timeout: 120_000,
  }, async () => {
    const short = ['--set', 'schedule.steps=3', '--set', 'schedule.warmup=0', '--set', 'checkpoint.every=0'];
    const first = join(folder, 'first');
    await ends(launch(first, 1, ...short, '--set', 'model.qk_norm=none'), 0);
    const init = join(first, 'checkpoints', 'step-00000003', 'model.safetensors');
    const tuned = (name: string, nodes: number) =>
      launch(
        join(folder, name),
        nodes,
        ...short,
        ...[
          '--set',
          `init=${init}`,
          '--set',
          'model.pos_embed_max_size=20',
          '--set',
          'model.qk_norm=rms',
          '--set',
          'freeze=["joint_blocks.0.*"]',
        ],
      );
    const one = await tuned('one', 1);
    expect(one.output).toMatch(/Added QK-norm .* the velocity changes by/);
    expect(one.output).toMatch(/Extended the position grid from 16 x 16 to 20 x 20 \(computed\)/);
    expect(one.code).toBe(0);
    expect(await tuned('two', 2)).toMatchObject({ code: 0 });
    expect(fingerprint(join(folder, 'two'), 3)).toEqual(fingerprint(join(folder, 'one'), 3));

    const before = await Safetensors.open(init);
    const after = await Safetensors.open(
      join(folder, 'one', 'checkpoints', 'step-00000003', 'model.safetensors'),
    );
    const same = async (name: string) => {
      const [a, b] = [await before.read(OFFICIAL_PREFIX + name), await after.read(OFFICIAL_PREFIX + name)];
      return Buffer.from(a.buffer).equals(Buffer.from(b.buffer));
    };
    expect(await same('joint_blocks.0.x_block.attn.qkv.weight')).toBe(true);
    expect(await same('joint_blocks.1.x_block.attn.qkv.weight')).toBe(false);
    await before.close();
    await after.close();
  });
});

describe('the calibration batch', () => {
  test('is a function of the configuration', async () => {
    const config = loadConfig(TRAINING, [], {});
    const dataset = await openDataset(config.data);
    const plan = new SamplePlan([
      firstSegment(dataset.hash, dataset.rows, config.data.validation_rows, config.seed),
    ]);
    const rows = await native().mapDataset(dataset.spec);
    const objective = objectiveOf(config.objective);
    const batch = await calibrationBatch({ config, objective, plan, dataset, rows });
    expect(batch).toEqual(await calibrationBatch({ config, objective, plan, dataset, rows }));
    expect(batch.timestep).toHaveLength(20);
    expect(batch.timestep[0]).toBeCloseTo(25, 3);
    expect(batch.z).toHaveLength(20 * 16 * 8 * 8);
    expect(batch.context).toHaveLength(20 * 16 * 160);
    expect(batch.pooled).toHaveLength(20 * 128);
    rows.close();
  });
});
