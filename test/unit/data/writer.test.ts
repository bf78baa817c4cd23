import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tableFromIPC } from 'apache-arrow';
import { describe, expect, test } from 'vitest';
import { readManifest } from '../../../src/data/manifest.js';
import { type Row, type ShardSchema, writeShards } from '../../../src/data/writer.js';
import { toFloat16Bits } from '../../../src/formats/float16.js';
import { fromFloat16Bits } from '../../support/arrow-files.js';
import { temporaryFolder } from '../../support/folders.js';

const schema: ShardSchema = {
  columns: [
    { name: 'id', type: 'int64', shape: [] },
    { name: 'caption', type: 'utf8', shape: [] },
    { name: 'latent', type: 'float16', shape: [2, 2, 2] },
    { name: 'exact', type: 'float32', shape: [3] },
  ],
  encoders: {
    clip_l: { name: 'a', tokens: 2, dim: 3, pooled_dim: 3 },
    clip_g: { name: 'b', tokens: 2, dim: 4, pooled_dim: 4 },
    t5: { name: 'c', tokens: 2, dim: 8, pooled_dim: null },
  },
  latents: { channels: 2 },
  generator: { name: 'test' },
};

function* rows(count: number): Generator<Row> {
  for (let i = 0; i < count; i++) {
    yield {
      id: BigInt(i),
      caption: `row ${i} é`,
      latent: Float32Array.from({ length: 8 }, (_, j) => i + j / 8),
      exact: Float32Array.of(i / 3, -i, Math.PI),
    };
  }
}

describe('float16', () => {
  test('survives the round trip for all 65536 bit patterns', () => {
    const wrong: number[] = [];
    for (let bits = 0; bits < 65536; bits++) {
      const value = fromFloat16Bits(bits);
      const back = toFloat16Bits(value);
      const same = Number.isNaN(value) ? (back & 0x7c00) === 0x7c00 && (back & 0x3ff) !== 0 : back === bits;
      if (!same) wrong.push(bits);
    }
    expect(wrong).toEqual([]);
  });

  test('rounds to the nearest, ties to even', () => {
    const wrong: number[] = [];
    for (let bits = 0; bits < 0x7bff; bits++) {
      const low = fromFloat16Bits(bits);
      const gap = fromFloat16Bits(bits + 1) - low;
      const right =
        toFloat16Bits(low + gap / 2) === (bits & 1 ? bits + 1 : bits) &&
        toFloat16Bits(low + gap * 0.499) === bits &&
        toFloat16Bits(-(low + gap * 0.501)) === ((bits + 1) | 0x8000);
      if (!right) wrong.push(bits);
    }
    expect(wrong).toEqual([]);
    expect(toFloat16Bits(65519.996)).toBe(0x7bff);
    expect(toFloat16Bits(65520)).toBe(0x7c00);
    expect(toFloat16Bits(-1e300)).toBe(0xfc00);
  });
});

describe('writeShards', () => {
  test('writes what another reader of Arrow reads back, with hashes that hold', async () => {
    const dir = join(temporaryFolder(), 'set');
    const seen: number[] = [];
    const manifest = await writeShards(dir, schema, rows(10), 4, (n) => seen.push(n));
    expect(readManifest(dir)).toEqual(manifest);
    expect(manifest.shards.map((s) => s.rows)).toEqual([4, 4, 2]);
    expect(seen).toEqual([4, 8, 10]);
    let row = 0;
    for (const shard of manifest.shards) {
      const bytes = readFileSync(join(dir, shard.file));
      expect(bytes.length).toBe(shard.bytes);
      expect(createHash('sha256').update(bytes).digest('hex')).toBe(shard.sha256);
      const table = tableFromIPC(bytes);
      expect(table.numRows).toBe(shard.rows);
      for (let i = 0; i < table.numRows; i++, row++) {
        expect(table.getChild('id')!.get(i)).toBe(BigInt(row));
        expect(table.getChild('caption')!.get(i)).toBe(`row ${row} é`);
        expect([...table.getChild('latent')!.get(i)!]).toEqual(
          Array.from({ length: 8 }, (_, j) => row + j / 8),
        );
        expect([...table.getChild('exact')!.get(i)!]).toEqual([...Float32Array.of(row / 3, -row, Math.PI)]);
      }
    }
    expect(row).toBe(10);
  });

  test('tells of its progress between shards', async () => {
    const seen: number[] = [];
    await writeShards(join(temporaryFolder(), 'set'), schema, rows(150), 100, (n) => seen.push(n));
    expect(seen).toEqual([64, 100, 150]);
  });

  test('writes the same bytes for the same rows', async () => {
    const a = await writeShards(join(temporaryFolder(), 'a'), schema, rows(7), 3);
    const b = await writeShards(join(temporaryFolder(), 'b'), schema, rows(7), 3);
    expect(a.shards).toEqual(b.shards);
  });

  test('leaves nothing behind when a row is wrong', async () => {
    const parent = temporaryFolder();
    const broken = [...rows(5), { ...[...rows(1)][0]!, latent: new Float32Array(7) }];
    await expect(writeShards(join(parent, 'set'), schema, broken, 2)).rejects.toMatchObject({
      code: 'ERR_DATA_SHAPE',
      message:
        'Row 5, column "latent": expected a Float32Array of 2 x 2 x 2 = 8, received a Float32Array of 7',
    });
    expect(readdirSync(parent)).toEqual([]);
  });

  test('clears away what a killed process left, and nothing else', async () => {
    const parent = temporaryFolder();
    const dead = spawnSync('true').pid;
    for (const name of [
      `.set.partial-${dead}`,
      `.set.partial-${process.ppid}`,
      '.set.partial-notes',
      '.other.partial-1',
    ]) {
      mkdirSync(join(parent, name));
    }
    await writeShards(join(parent, 'set'), schema, rows(1), 2);
    expect(readdirSync(parent).sort()).toEqual(
      ['.other.partial-1', `.set.partial-${process.ppid}`, '.set.partial-notes', 'set'].sort(),
    );
  });

  test('does not write over an existing folder', async () => {
    const dir = temporaryFolder();
    writeFileSync(join(dir, 'precious.txt'), 'x');
    await expect(writeShards(dir, schema, rows(1), 2)).rejects.toMatchObject({ code: 'ERR_FILE_WRITE' });
    expect(existsSync(join(dir, 'precious.txt'))).toBe(true);
  });
});

describe('readManifest', () => {
  const broken = async (change: (manifest: Record<string, unknown>) => unknown) => {
    const dir = join(temporaryFolder(), 'set');
    const manifest = await writeShards(dir, schema, rows(3), 2);
    const copy = JSON.parse(JSON.stringify(manifest)) as Record<string, unknown>;
    writeFileSync(join(dir, 'manifest.json'), JSON.stringify(change(copy)));
    return dir;
  };

  test.each([
    [
      'rows that do not add up',
      (m: Record<string, unknown>) => ({ ...m, rows: 4 }),
      /"rows" is 4.*add up to 3/,
    ],
    [
      'a path in place of a file name',
      (m: Record<string, unknown>) => ({
        ...m,
        shards: [{ ...(m.shards as object[])[0], file: '../../etc/passwd' }],
      }),
      /shards\.0\.file: expected a plain file name/,
    ],
    ['another version', (m: Record<string, unknown>) => ({ ...m, version: 9 }), /version/],
    ['an unknown key', (m: Record<string, unknown>) => ({ ...m, extra: 1 }), /extra/],
    ['another top level', () => [], /top level/],
  ])('refuses %s', async (_, change, message) => {
    const dir = await broken(change);
    expect(() => readManifest(dir)).toThrow(expect.objectContaining({ code: 'ERR_DATA_FORMAT' }));
    expect(() => readManifest(dir)).toThrow(message);
  });
});
