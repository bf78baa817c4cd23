/** Where a run starts, and with which model: from the seed, from weights, on small and large latents. */
import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadConfigWithSources } from '../../../src/config/load.js';
import { Safetensors } from '../../../src/formats/safetensors/file.js';
import { writeSafetensors } from '../../../src/formats/safetensors/write.js';
import { withWeights } from '../../../src/model/weights.js';
import { describeData, resolveRun } from '../../../src/run-folder/resolve-run.js';
import { MINIMAL, yaml } from '../../support/config.js';
import { temporaryFolder } from '../../support/folders.js';
import { TRAINING } from '../../support/launched.js';

const folder = temporaryFolder();
/** Two blocks of 128 channels, a grid of 16 x 16, no QK-norm, context of 64 and pooled width of 32 channels. */
const WEIGHTS = 'test/fixtures/mmdit/sd3-medium-like.weights.safetensors';
const FIXTURE = 'test/fixtures/huggingface/fixed';

const text = (t5Dim = 64, pooled = 16) => ({
  ...{ clipTokens: 8, t5Tokens: 8, clipLDim: 24, clipGDim: 40, t5Dim },
  ...{ clipLPooledDim: pooled, clipGPooledDim: 16 },
});

function resolveWith(side: number, sets: string[], t5Dim = 64) {
  const latent: [number, number, number] = [16, side, side / 2];
  const loaded = loadConfigWithSources(yaml(MINIMAL), sets, {});
  const options = { runDir: join(folder, 'new'), resume: 'auto', thorough: true };
  return resolveRun(loaded, { latent, text: text(t5Dim) }, null, options);
}

describe('the grid of positions', () => {
  test.each([
    [8, 16],
    [32, 16],
    [36, 18],
    [64, 32],
    [256, 128],
  ])('for latents of height %i is %i patches, and is recorded as a number', async (side, grid) => {
    const { config, model } = await resolveWith(side, []);
    expect(model.posEmbedMaxSize).toBe(grid);
    expect(config.model).toMatchObject({ pos_embed_max_size: grid, latent_channels: 16, context_dim: 64 });
  });

  test('stays as it is set, and is refused where it is too small', async () => {
    expect((await resolveWith(8, ['model.pos_embed_max_size=4'])).model.posEmbedMaxSize).toBe(4);
    await expect(resolveWith(64, ['model.pos_embed_max_size=16'])).rejects.toMatchObject({
      code: 'ERR_CONFIG',
      message:
        'model.pos_embed_max_size (--set model.pos_embed_max_size=16): expected at least 32, which latents of 64 x 32 need in patches of 2, or null, received 16',
    });
    await expect(resolveWith(64, ['model.patch=5'])).rejects.toMatchObject({
      code: 'ERR_CONFIG',
      message: expect.stringMatching(/^model\.patch \(.*\): expected a divisor .* 64 x 32.*, received 5$/),
    });
  });
});

describe('weights to start from', () => {
  test('give the model where its keys are not set', async () => {
    const { config, start, notes } = await resolveWith(8, [`init=${WEIGHTS}`]);
    await withWeights(WEIGHTS, async ({ spec }) => {
      expect(config.model).toMatchObject({ depth: spec.depth, hidden: 64 * spec.heads, qk_norm: 'none' });
    });
    expect(start).toBe(`fresh, weights of ${WEIGHTS}`);
    expect(notes).toEqual([expect.stringMatching(/^starting from the weights of .*: depth 2, hidden 128/)]);
  });

  test('may get QK-norm and a larger grid: as it is set, and as the latents need it', async () => {
    const grown = await resolveWith(64, [`init=${WEIGHTS}`, 'model.qk_norm=rms']);
    expect(grown.config.model).toMatchObject({ depth: 2, qk_norm: 'rms', pos_embed_max_size: 32 });
  });

  test('keep a grid that is smaller than the default and large enough', async () => {
    const small = join(folder, 'grid-of-6.safetensors');
    const file = await Safetensors.open(WEIGHTS);
    const tensors = [];
    for (const [name, { shape }] of file.tensors) {
      const isGrid = name.endsWith('pos_embed');
      const data = await file.read(name);
      tensors.push({
        ...{ name, dtype: 'F32' as const },
        ...(isGrid ? { shape: [1, 36, 128], data: data.slice(0, 36 * 128) } : { shape, data }),
      });
    }
    await file.close();
    await writeSafetensors(small, tensors, {});
    expect((await resolveWith(8, [`init=${small}`])).config.model).toMatchObject({ pos_embed_max_size: 6 });
    expect((await resolveWith(24, [`init=${small}`])).config.model).toMatchObject({ pos_embed_max_size: 12 });
  });

  test('of another model than the keys say are refused: what differs, and the lines to set', async () => {
    const sets = [`init=${WEIGHTS}`, 'model.depth=5', 'model.hidden=128'];
    await expect(resolveWith(8, sets)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_MISMATCH',
      message: `init: ${WEIGHTS} holds another model: model.depth is 2 there and 5 in the run (--set model.depth=5)`,
      hint: expect.stringContaining('set model: {depth: 2}'),
    });
    await expect(resolveWith(8, [`init=${WEIGHTS}`], 160)).rejects.toMatchObject({
      message: expect.stringContaining(
        'model.context_dim is 64 there and 160 in the run (from the data set)',
      ),
    });
  });

  test('that are not there: the key, its place and the whole path', async () => {
    await expect(resolveWith(8, ['init=no/such'])).rejects.toMatchObject({
      code: 'ERR_FILE_OPEN',
      message: expect.stringMatching(/^init \(--set init=no\/such\): there is nothing at \/.*\/no\/such$/),
    });
  });

  test('that are no weights: the key and its place, too', async () => {
    await expect(resolveWith(8, ['init=package.json'])).rejects.toMatchObject({
      code: 'ERR_SAFETENSORS',
      message: 'init (--set init=package.json): package.json is a JSON file; expected a safetensors file',
    });
    await expect(resolveWith(8, ['init=/dev/null'])).rejects.toMatchObject({
      message: expect.stringMatching(/^init \(--set init=\/dev\/null\): .*\/dev\/null/),
    });
  });

  test('rules that waited for them hold', async () => {
    const freeze = (block: number) => `freeze=["joint_blocks.${block}.*"]`;
    expect((await resolveWith(8, [`init=${WEIGHTS}`, freeze(1)])).config.freeze).toHaveLength(1);
    await expect(resolveWith(8, [`init=${WEIGHTS}`, freeze(3)])).rejects.toMatchObject({
      code: 'ERR_CONFIG',
      message: expect.stringContaining('joint_blocks.3.*'),
    });
  });
});

describe('the data set', () => {
  const described = (...sets: string[]) => describeData(loadConfigWithSources(TRAINING, sets, {}));

  test('whose columns are not those of the configuration: each key, its place, and what there is', () => {
    expect(() => described('data.columns.original.t5=t6', 'data.columns.original.clip_l=id')).toThrow(
      expect.objectContaining({
        code: 'ERR_DATA_TYPE',
        message: expect.stringMatching(
          /^data\.columns\.original\.clip_l \(--set data\.columns\.original\.clip_l=id\): .*arrow, column "id": expected lists of/,
        ),
        also: [
          expect.objectContaining({
            message: expect.stringMatching(
              /^data\.columns\.original\.t5 \(--set .*\): .*arrow has no column "t6"; it has "id", "caption"/,
            ),
          }),
        ],
      }),
    );
    const columns =
      '{latent: latents, original: {clip_l: clip_l, clip_l_pooled: clip_l_pooled, clip_g: clip_g, clip_g_pooled: clip_g_pooled, t5: t5}}';
    const file = yaml(
      `name: x\ndata:\n  path: ${FIXTURE}\n  latent_shape: [16, 8, 8]\n  text_shape: {clip_l: [8, 48], clip_g: [8, 80], t5: [8, 160]}\n  columns: ${columns}\n`,
    );
    expect(() => describeData(loadConfigWithSources(file, [], {}))).toThrow(
      /^data\.columns\.latent \(.*\.yaml:6:21\): .*arrow has no column "latents"/,
    );
  });

  test('whose ids cannot be read, which a report of a row would find out too late', () => {
    expect(() => described('data.columns.id=nope')).toThrow(
      /^data\.columns\.id \(--set data\.columns\.id=nope\): .*has no column "nope"/,
    );
    expect(() => described('data.columns.id=latent')).toThrow(/expected utf8, large_utf8 or an integer/);
  });

  test('without roles: the key of the folder, and its columns', () => {
    expect(() => described('data.columns=null')).toThrow(
      expect.objectContaining({
        message: expect.stringMatching(
          /^data\.path \(test\/integration\/training\.yaml:6:9\): .* data\.columns must give the role of each column$/,
        ),
        hint: expect.stringContaining('It has the columns id, caption'),
      }),
    );
  });

  test('that is not there: the key, its place and the whole path', () => {
    const path = yaml('name: x\ndata:\n  path: no/data\n');
    expect(() => describeData(loadConfigWithSources(path, [], {}))).toThrow(
      expect.objectContaining({
        code: 'ERR_FILE_OPEN',
        message: expect.stringMatching(
          /^data\.path \(.*\.yaml:3:9\): There is no data set at \/.*\/no\/data \(no\/data, relative to the working directory\)$/,
        ),
      }),
    );
  });

  test.each([
    ['data.validation_rows=48', 'Left to train on: none'],
    ['data.validation_rows=30', 'Left to train on: 18, fewer than one batch (batch.global'],
  ])('with too few rows: %s', async (set, words) => {
    const loaded = loadConfigWithSources(TRAINING, [set], {});
    const data = describeData(loaded);
    const options = { runDir: join(folder, 'new'), resume: 'auto', thorough: false };
    await expect(resolveRun(loaded, data, data, options)).rejects.toMatchObject({
      code: 'ERR_DATA_EMPTY',
      message: expect.stringContaining(words),
    });
    await expect(resolveRun(loaded, data, data, options)).rejects.toThrow(
      `data.validation_rows (--set ${set})`,
    );
  });

  test('is described without reading its values', async () => {
    const copy = join(folder, 'damaged');
    mkdirSync(copy);
    cpSync(FIXTURE, copy, { recursive: true });
    const data = describeData(loadConfigWithSources(TRAINING, [`data.path=${copy}`], {}));
    expect(data.rows).toBe(48);
  });
});
