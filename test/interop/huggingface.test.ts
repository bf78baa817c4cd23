import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { tableFromIPC } from 'apache-arrow';
import { describe, expect, test } from 'vitest';
import { openDataset } from '../../src/data/dataset.js';
import { openSource } from '../../src/data/formats.js';
import { inspectDataset } from '../../src/data/inspect.js';
import { native } from '../../src/native/load.js';
import { FIXTURES, fixtureConfig, fromFloat16Bits } from '../support/arrow-files.js';

const ROLES: [string, string][] = [
  ['latent', 'latent'],
  ['clip_l', 'original.clip_l'],
  ['clip_l_pooled', 'original.clip_l_pooled'],
  ['clip_g', 'original.clip_g'],
  ['clip_g_pooled', 'original.clip_g_pooled'],
  ['t5', 'original.t5'],
];

/** All numbers of a column, row by row, as apache-arrow reads them. */
function columnRows(dir: string, name: string): number[][] {
  const files = ['data-00000-of-00002.arrow', 'data-00001-of-00002.arrow'];
  return files.flatMap((file) => {
    const column = tableFromIPC(readFileSync(join(dir, file))).getChild(name)!;
    return Array.from({ length: column.length }, (_, i) => flatten(column.get(i)));
  });
}

/** Lists become numbers; binary16 values may arrive as bits or as numbers. */
function flatten(value: unknown): number[] {
  if (typeof value === 'number') return [value];
  if (value instanceof Uint16Array) return Array.from(value, fromFloat16Bits);
  return [...(value as Iterable<unknown>)].flatMap(flatten);
}

describe.each([
  ['fixed', 48, true],
  ['nested', 20, false],
] as const)('the folder %s that Hugging Face datasets wrote', (name, rows, flat) => {
  const dir = join(FIXTURES, name);

  test('has the shapes of its features', async () => {
    const data = await openDataset(fixtureConfig(dir, flat));
    expect(data.rows).toBe(rows);
    expect(data.latent).toEqual([16, 8, 8]);
    expect(data.hasSynthetic).toBe(false);
    expect(data.text).toEqual({
      clipTokens: 8,
      t5Tokens: 8,
      clipLDim: 48,
      clipGDim: 80,
      t5Dim: 160,
      clipLPooledDim: 48,
      clipGPooledDim: 80,
    });
    expect(data.ids([0, rows - 1])).toEqual(flat ? ['u00000', 'u00047'] : ['u00048', 'u00067']);
  });

  test('has the values that another reader of Arrow finds', async () => {
    const data = await openDataset(fixtureConfig(dir, flat));
    const dataset = await native().mapDataset(data.spec);
    for (const [column, role] of ROLES) {
      const expected = columnRows(dir, column);
      expect(expected.length).toBe(rows);
      for (let row = 0; row < rows; row++) {
        expect([...dataset.row(role, row)], `${column}, row ${row}`).toEqual(expected[row]);
      }
    }
    dataset.close();
  });

  test('is described by inspect', async () => {
    const report = await inspectDataset(openSource(dir), 'latent', null);
    expect(report).toMatchObject({ format: 'huggingface', rows });
    const byName = new Map(report.columns.map((column) => [column.name, column]));
    expect([...byName.keys()]).toEqual(['id', 'caption', ...ROLES.map(([column]) => column)]);
    expect(byName.get('id')!.example).toBe(flat ? 'u00000' : 'u00048');
    for (const [column] of ROLES) {
      const values = columnRows(dir, column).flat();
      const mean = values.reduce((a, b) => a + b, 0) / values.length;
      const { statistics, problem } = byName.get(column)!;
      expect(problem).toBeNull();
      expect(statistics!.min).toBe(Math.min(...values));
      expect(statistics!.max).toBe(Math.max(...values));
      expect(statistics!.mean).toBeCloseTo(mean, 10);
      const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length;
      expect(statistics!.std).toBeCloseTo(Math.sqrt(variance), 10);
      expect(statistics!.nonFinite).toBe(0);
    }
    expect(report.histogram!.counts.reduce((a, b) => a + b, 0)).toBe(rows * 1024);
  });
});
