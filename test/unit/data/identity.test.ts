/** What makes two data sets the same, and what is remembered of it. */
import { cpSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { openDataset } from '../../../src/data/dataset.js';
import { digestedRows } from '../../../src/data/identity.js';
import { type Row, type ShardSchema, writeShards } from '../../../src/data/writer.js';
import {
  arrowBytes,
  copyFixture,
  type Element,
  FIXTURES,
  fixtureConfig,
  huggingFaceFolder,
  numericData,
  stringData,
} from '../../support/arrow-files.js';
import { temporaryFolder } from '../../support/folders.js';

let cache: string;
beforeEach(() => {
  cache = temporaryFolder();
  vi.stubEnv('XDG_CACHE_HOME', cache);
});
afterEach(() => vi.unstubAllEnvs());

const WIDTHS = { latent: 8, clip_l: 4, clip_l_pooled: 2, clip_g: 6, clip_g_pooled: 3, t5: 20 };
const SHAPES = {
  latent_shape: [2, 2, 2] as [number, number, number],
  text_shape: { clip_l: [2, 2], clip_g: [2, 3], t5: [4, 5] } as {
    clip_l: [number, number];
    clip_g: [number, number];
    t5: [number, number];
  },
};

interface Variant {
  element?: Element;
  /** Rows of each file. */
  files?: number[];
  rename?: (name: string) => string;
  change?: (columns: Record<string, ReturnType<typeof numericData>>) => void;
  order?: number[];
}

/** A Hugging Face folder of the same 9 rows, saved in some way, and its configuration. */
function saved({ element = 'float16', files = [9], rename = (name) => name, change }: Variant) {
  let first = 0;
  const bytes = files.map((rows) => {
    const columns: Record<string, ReturnType<typeof numericData>> = {};
    for (const [name, size] of Object.entries(WIDTHS)) {
      const options = { element, levels: [{ kind: 'fixed' as const, size }], skipped: 0 };
      columns[rename(name)] = numericData(options, rows, first);
    }
    columns[rename('id')] = stringData(Array.from({ length: rows }, (_, i) => `r${first + i}`));
    change?.(columns);
    first += rows;
    return arrowBytes([columns], { format: 'stream' });
  });
  const { columns } = fixtureConfig('', true);
  const { id, latent, original } = columns!;
  const renamed = Object.fromEntries(
    Object.entries(original).map(([role, name]) => [role, name && rename(name)]),
  ) as typeof original;
  return {
    path: huggingFaceFolder(bytes),
    columns: { ...columns!, id: id && rename(id), latent: rename(latent), original: renamed },
    ...SHAPES,
  };
}

const hashOf = async (config: Parameters<typeof openDataset>[0]) => (await openDataset(config)).hash;

describe('the identity', () => {
  test('is that of the rows, however they are saved', async () => {
    const hash = await hashOf(saved({}));
    expect(hash).toMatch(/^[0-9a-f]{64}$/);
    expect(await hashOf(saved({ files: [4, 5] }))).toBe(hash);
    expect(await hashOf(saved({ files: [1, 1, 7] }))).toBe(hash);
    expect(await hashOf(saved({ rename: (name) => `my_${name}` }))).toBe(hash);
    const config = saved({});
    expect(await hashOf({ ...config, columns: { ...config.columns, id: null } })).toBe(hash);
  });

  test('of the first rows is that of a set of these rows alone', async () => {
    const { hash, identify } = await openDataset(saved({ files: [4, 5] }));
    expect(await identify({ rows: 4 })).toBe(await hashOf(saved({ files: [4] })));
    expect(await identify({ rows: 9 })).toBe(hash);
  });

  test("is the same in the project's own format", async () => {
    const config = saved({ files: [3, 6] });
    const columns = Object.entries(WIDTHS).map(([name, width]) => {
      const shape =
        name === 'latent' ? SHAPES.latent_shape : (SHAPES.text_shape as Record<string, number[]>)[name];
      const role = name === 'latent' ? name : `original.${name}`;
      return { name: role, type: 'float16' as const, shape: shape ?? [width] };
    });
    const encoder = { name: 'e', tokens: 1, dim: 1, pooled_dim: null };
    const schema: ShardSchema = {
      columns,
      encoders: { clip_l: encoder, clip_g: encoder, t5: encoder },
      latents: {},
      generator: {},
    };
    const rows = Array.from({ length: 9 }, (_, row): Row => {
      const values = columns.map(({ name, shape }) => {
        const width = shape.reduce((a, b) => a * b, 1);
        return [name, Float32Array.from({ length: width }, (_, i) => ((row * 31 + i * 7) % 1000) / 8)];
      });
      return Object.fromEntries(values);
    });
    const dir = join(temporaryFolder(), 'own');
    await writeShards(dir, schema, rows, 4);
    const own = { path: dir, columns: null, latent_shape: null, text_shape: null };
    expect(await hashOf(own)).toBe(await hashOf(config));
  });

  test('differs with rows, values, types and shapes', async () => {
    const different = (column: string) => ({
      change: (columns: Record<string, ReturnType<typeof numericData>>) => {
        const values = columns[column]!.children[0]!.values as Uint16Array;
        values[values.length - 1]! ^= 1;
      },
    });
    const all = await Promise.all([
      hashOf(saved({})),
      hashOf(saved({ files: [8] })),
      hashOf(saved({ files: [10] })),
      hashOf(saved({ element: 'float32' })),
      hashOf(saved(different('latent'))),
      hashOf(saved(different('clip_g_pooled'))),
      hashOf(saved(different('t5'))),
      hashOf({ ...saved({}), latent_shape: [2, 4, 1] }),
    ]);
    expect(new Set(all).size).toBe(all.length);
  });

  test('of plan version 1 is what it was', async () => {
    const first = async (config: Parameters<typeof openDataset>[0]) =>
      (await openDataset(config, { planVersion: 1 })).hash;
    expect(await first(fixtureConfig(join(FIXTURES, 'fixed'), true))).toBe(
      '79f053d51714328420f43f474f8c7526375aaf7319320f587d88e6bdae7fcfbb',
    );
    expect(await first(fixtureConfig(join(FIXTURES, 'nested'), false))).toBe(
      '73819098ef115effab8a41806adc9ed107f6e63c86cb11d86f788f2904cc452e',
    );
    const own = {
      path: 'test/fixtures/runs/f61e27f/data',
      columns: null,
      latent_shape: null,
      text_shape: null,
    };
    expect(await first(own)).toBe('db8c337c73234f0e05b8ba8217151e782c59446da8318e4cb1155d8d1ec55655');
  });
});

describe('the digested rows', () => {
  test('are all of a small set', () => {
    expect([...digestedRows(3)]).toEqual([0, 1, 2]);
    expect(digestedRows(4096)).toHaveLength(4096);
    expect(digestedRows(4096)[4095]).toBe(4095);
  });

  test('are one of each equal range of a large set, and never others', () => {
    const rows = 1_000_003;
    const chosen = digestedRows(rows);
    expect(chosen).toHaveLength(4096);
    for (const [i, row] of chosen.entries()) {
      expect(row).toBeGreaterThanOrEqual(Math.floor((i * rows) / 4096));
      expect(row).toBeLessThanOrEqual(Math.floor(((i + 1) * rows) / 4096));
    }
    expect([...chosen.slice(0, 4), chosen[4095]]).toEqual([15, 271, 530, 809, 999_918]);
  });
});

describe('the cache', () => {
  /** The identity, and whether values were read for it. */
  async function open(config: Parameters<typeof openDataset>[0], use: 'use' | 'renew' | 'none' = 'use') {
    let isRead = false;
    const progress = () => {
      isRead = true;
    };
    return { hash: (await openDataset(config, { cache: use, progress })).hash, isRead };
  }
  const entries = () => readdirSync(join(cache, 'orchestrator', 'data-sets'));

  test('spares reading the values of unchanged files', async () => {
    const config = fixtureConfig(copyFixture('fixed'), true);
    const first = await open(config);
    expect(first.isRead).toBe(true);
    expect(await open(config)).toEqual({ ...first, isRead: false });
    expect(await open(config, 'renew')).toEqual(first);
    const [file] = ['data-00000-of-00002.arrow'];
    utimesSync(join(config.path, file!), 1, 1);
    expect(await open(config)).toEqual(first);
    const copy = join(temporaryFolder(), 'copy');
    cpSync(config.path, copy, { recursive: true });
    expect(await open({ ...config, path: copy })).toEqual(first);
  });

  test('does not hide another use of the same files', async () => {
    const config = saved({});
    const { hash } = await open(config);
    const original = { ...config.columns.original, clip_l_pooled: 'clip_g_pooled' };
    const other = await open({ ...config, columns: { ...config.columns, original } });
    expect(other.isRead).toBe(true);
    expect(other.hash).not.toBe(hash);
  });

  test('is computed again where it is damaged, and left out where it cannot be written', async () => {
    const config = saved({});
    const first = await open(config);
    const path = join(cache, 'orchestrator', 'data-sets', entries()[0]!);
    for (const damaged of ['', '{', '{"digest": "0"}']) {
      writeFileSync(path, damaged);
      expect(await open(config)).toEqual(first);
    }
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual({
      digest: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    rmSync(cache, { recursive: true });
    writeFileSync(cache, 'a file where the folder should be');
    expect(await open(config)).toEqual(first);
    expect(await open(config, 'none')).toEqual(first);
  });
});
