/** Roles of columns that are joined, halved, or have dimensions of 1 in front. */
import { describe, expect, test } from 'vitest';
import { type DataConfig, openDataset } from '../../../src/data/dataset.js';
import { requirePatches } from '../../../src/data/fit.js';
import { arrowBytes, huggingFaceFolder, numericData } from '../../support/arrow-files.js';

const NONE = { clip_l: null, clip_l_pooled: null, clip_g: null, clip_g_pooled: null, t5: null };
const JOINED = { ...NONE, context: 'context', pooled: 'pooled' };

/** A folder of two rows with latents and joined features of these shapes, and its configuration. */
function joined(shapes: { latent: number[]; context: number[]; pooled: number[]; logvar?: number[] }) {
  const columns = Object.entries(shapes).map(([name, sides]) => {
    const levels = sides.map((size) => ({ kind: 'fixed' as const, size }));
    return [name, numericData({ element: 'float16', levels, skipped: 0 }, 2)];
  });
  const path = huggingFaceFolder([arrowBytes([Object.fromEntries(columns)], { format: 'stream' })]);
  return {
    path,
    columns: { id: null, latent: 'latent', latent_logvar: null, original: JOINED, synthetic: null },
    ...{ latent_shape: null, text_shape: null },
  } satisfies DataConfig;
}

const SD3 = { latent: [16, 4, 4], context: [154, 4096], pooled: [2048] };

describe('joined text features', () => {
  test.each([154, 333])("of SD3's widths and %i tokens need no shape", async (tokens) => {
    const { text } = await openDataset(joined({ ...SD3, context: [tokens, 4096] }));
    expect(text).toEqual({
      ...{ clipTokens: 77, t5Tokens: tokens - 77, clipLDim: 768, clipGDim: 1280, t5Dim: 4096 },
      ...{ clipLPooledDim: 768, clipGPooledDim: 1280 },
    });
  });

  test('of other widths need data.text_shape', async () => {
    const config = joined({ latent: [4, 2, 2], context: [5, 12], pooled: [7] });
    await expect(openDataset(config)).rejects.toEqual(
      expect.objectContaining({
        code: 'ERR_DATA_SHAPE',
        message: expect.stringContaining('5 x 12 and 7 do not say which part is whose'),
        hint: expect.stringContaining('data.text_shape'),
      }),
    );
    const text_shape = { clip_l: [2, 3], clip_g: [2, 4], t5: [3, 12] } as DataConfig['text_shape'];
    expect((await openDataset({ ...config, text_shape })).text).toEqual({
      ...{ clipTokens: 2, t5Tokens: 3, clipLDim: 3, clipGDim: 4, t5Dim: 12 },
      ...{ clipLPooledDim: 3, clipGPooledDim: 4 },
    });
    const wrong = { clip_l: [2, 3], clip_g: [2, 4], t5: [4, 12] } as DataConfig['text_shape'];
    await expect(openDataset({ ...config, text_shape: wrong })).rejects.toThrow(
      /expected 6 x 12 elements, received 5 x 12/,
    );
  });
});

describe('the latent', () => {
  test('may have dimensions of 1 in front', async () => {
    expect((await openDataset(joined({ ...SD3, latent: [1, 16, 4, 4], pooled: [1, 2048] }))).latent).toEqual([
      16, 4, 4,
    ]);
    await expect(openDataset(joined({ ...SD3, latent: [2, 16, 4, 4] }))).rejects.toThrow(
      /column "latent" \(latent\), row 0: expected a shape of 3 dimensions, received 2 x 16 x 4 x 4/,
    );
  });

  test('of mean and log-variance has half of the channels, or two columns', async () => {
    const one = { ...joined(SD3), latent_form: 'mean_logvar' as const };
    const { latent, spec } = await openDataset(one);
    expect(latent).toEqual([8, 4, 4]);
    const [mean, logvar] = spec.columns;
    expect([mean!.role, logvar!.role, mean!.width, mean!.rowBytes]).toEqual([
      'latent',
      'latent_logvar',
      128,
      512,
    ]);
    expect(logvar!.segments[3]! - mean!.segments[3]!).toBe(256);

    const config = joined({ ...SD3, logvar: [16, 4, 4] });
    const columns = { ...config.columns, latent_logvar: 'logvar' };
    const two = await openDataset({ ...config, columns, latent_form: 'mean_logvar' });
    expect(two.latent).toEqual([16, 4, 4]);
    expect(two.spec.columns.map(({ role }) => role)).toContain('latent_logvar');

    const odd = { ...joined({ ...SD3, latent: [15, 4, 4] }), latent_form: 'mean_logvar' as const };
    await expect(openDataset(odd)).rejects.toThrow(/15 x 4 x 4 does not split into means and log-variances/);
  });

  test('must be divisible into patches', async () => {
    const dataset = await openDataset(joined({ ...SD3, latent: [16, 5, 4] }));
    const config = (patch: number) => ({ model: { patch } }) as Parameters<typeof requirePatches>[1];
    expect(() => requirePatches(dataset, config(2))).toThrow(
      /model\.patch is 2, which does not divide the sides of the latents in .*data-0\.arrow: 16 x 5 x 4/,
    );
    requirePatches(dataset, config(1));
  });
});
