/** Features of rows as the model receives them, from the columns that Hugging Face `datasets` wrote. */
import { expect, test } from 'vitest';
import { describeDataset } from '../../../src/data/dataset.js';
import { conditioningOf } from '../../../src/data/features.js';
import { native } from '../../../src/native/load.js';

const dataset = describeDataset({
  path: 'test/fixtures/huggingface/fixed',
  columns: {
    id: 'id',
    latent: 'latent',
    latent_logvar: null,
    original: {
      ...{ clip_l: 'clip_l', clip_l_pooled: 'clip_l_pooled', clip_g: 'clip_g' },
      ...{ clip_g_pooled: 'clip_g_pooled', t5: 't5', context: null, pooled: null },
    },
    synthetic: null,
  },
  latent_shape: [16, 8, 8],
  text_shape: { clip_l: [8, 48], clip_g: [8, 80], t5: [8, 160] },
});

test('CLIP-L and CLIP-G lie side by side, padded to the width of T5, whose tokens follow', async () => {
  const rows = [41, 2];
  const { count, context, pooled } = await conditioningOf(dataset, rows, 'original');
  expect([count, context.length, pooled.length]).toEqual([2, 2 * 16 * 160, 2 * 128]);
  const mapped = await native().mapDataset(dataset.spec);
  rows.forEach((row, i) => {
    const of = (feature: string) => [...mapped.row(`original.${feature}`, row)];
    const token = (n: number) => [...context.subarray((16 * i + n) * 160, (16 * i + n + 1) * 160)];
    const clip = [...of('clip_l').slice(3 * 48, 4 * 48), ...of('clip_g').slice(3 * 80, 4 * 80)];
    expect(token(3)).toEqual([...clip, ...new Array(32).fill(0)]);
    expect(token(8 + 5)).toEqual(of('t5').slice(5 * 160, 6 * 160));
    const both = [...of('clip_l_pooled'), ...of('clip_g_pooled')];
    expect([...pooled.subarray(128 * i, 128 * (i + 1))]).toEqual(both);
  });
  mapped.close();
});

test('a row that is not there, and a caption that rows do not have, are refused', async () => {
  await expect(conditioningOf(dataset, [0, 48], 'original')).rejects.toMatchObject({
    code: 'ERR_DATA_ROW',
    message: expect.stringContaining('there is no row 48; rows are 0 to 47'),
  });
  await expect(conditioningOf(dataset, [0], 'synthetic')).rejects.toMatchObject({ code: 'ERR_DATA_COLUMN' });
});
