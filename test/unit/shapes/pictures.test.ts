import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import { pictureName, writeEach, writeGrid } from '../../../src/shapes/pictures.js';
import { temporaryFolder } from '../../support/folders.js';

let dir: string;
beforeAll(() => {
  dir = temporaryFolder();
});

function plain(r: number, g: number, b: number): Uint8Array {
  return Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => [r, g, b][i % 3]!);
}

describe('writeEach', () => {
  const size = { width: 1, height: 1 };
  const first = { pixels: Uint8Array.of(1, 2, 3), origin: { prompt: 'x', seed: 7 } };

  test('lists the pictures in their order', async () => {
    const folder = join(dir, 'each');
    await writeEach([first, { ...first, origin: { row: 3 } }], folder, size);
    expect(readdirSync(folder).sort()).toEqual(['0000.png', '0001.png', 'prompts.jsonl']);
    const list = readFileSync(join(folder, 'prompts.jsonl'), 'utf8').trimEnd().split('\n');
    expect(list.map((line) => JSON.parse(line))).toEqual([
      { file: '0000.png', prompt: 'x', seed: 7 },
      { file: '0001.png', row: 3 },
    ]);
  });

  test('leaves nothing after a failure, so that the same command can be given again', async () => {
    const folder = join(dir, 'failed');
    // Too few bytes of a picture.
    const failed = writeEach([first, { ...first, pixels: new Uint8Array(1) }], folder, size);
    await expect(failed).rejects.toMatchObject({
      code: 'ERR_FILE_WRITE',
      message: expect.stringContaining(join(folder, '0001.png')),
    });
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe('writeGrid', () => {
  test('puts pictures side by side, each with its label below', async () => {
    const path = join(dir, 'deeper', 'grid.png');
    const pictures = [
      { pixels: plain(255, 0, 0), label: 'a red picture' },
      { pixels: plain(0, 255, 0), label: 'green' },
      { pixels: plain(0, 0, 255), label: '' },
    ];
    const size = await writeGrid(pictures, path, { columns: 2 });
    const { data, info } = await sharp(path).removeAlpha().raw().toBuffer({ resolveWithObject: true });
    expect({ width: info.width, height: info.height }).toEqual(size);
    const at = (x: number, y: number) => [
      ...data.subarray((y * info.width + x) * 3, (y * info.width + x) * 3 + 3),
    ];
    expect(at(16 + 96, 16 + 96)).toEqual([255, 0, 0]);
    expect(at(16 + 208 + 96, 16 + 96)).toEqual([0, 255, 0]);
    const darkest = (left: number, top: number) => {
      let least = 255;
      for (let y = top; y < top + 16; y++)
        for (let x = left; x < left + 192; x++) least = Math.min(least, at(x, y)[0]!);
      return least;
    };
    expect(darkest(16, 16 + 192 + 4)).toBeLessThan(100);
    expect(darkest(16 + 208, 16 + 192 + 4)).toBeLessThan(100);
    // The second row begins below the first row's one line of labels; its label is empty.
    const second = 16 + 192 + 8 + 15 + 16;
    expect(at(16 + 96, second + 96)).toEqual([0, 0, 255]);
    expect(darkest(16, second + 192 + 2)).toBe(255);
  });

  test('names the file that it cannot write', async () => {
    const file = join(dir, 'a-file');
    writeFileSync(file, '');
    const path = join(file, 'grid.png');
    await expect(writeGrid([{ pixels: plain(0, 0, 0), label: 'x' }], path)).rejects.toMatchObject({
      code: 'ERR_FILE_WRITE',
      message: expect.stringContaining(path),
    });
  });

  /** Columns and rows of the ink of a label under the only picture of a grid. */
  async function inkOf(label: string): Promise<{ left: number; right: number; top: number; bottom: number }> {
    const path = join(dir, 'ink.png');
    await writeGrid([{ pixels: plain(0, 0, 0), label }], path);
    const { data, info } = await sharp(path).greyscale().raw().toBuffer({ resolveWithObject: true });
    const below = 16 + 192 + 2;
    const dark = Array.from(data.keys()).filter((i) => i >= below * info.width && data[i]! < 200);
    const columns = dark.map((i) => i % info.width);
    const rows = dark.map((i) => Math.floor(i / info.width) - below);
    return {
      left: Math.min(...columns) - 16,
      right: Math.max(...columns) - 16,
      top: Math.min(...rows),
      bottom: Math.max(...rows),
    };
  }

  test('breaks labels between words, and within a word that is longer than a line', async () => {
    const one = await inkOf('a red circle');
    const several = await inkOf('a large red circle at the top left on a black background');
    expect(several.bottom - several.top).toBeGreaterThan(one.bottom - one.top + 15);
    const broken = await inkOf('m'.repeat(40));
    expect(broken.bottom - broken.top).toBeGreaterThan(20);
    for (const { left, right } of [one, several, broken]) {
      expect(left).toBeGreaterThanOrEqual(0);
      expect(right).toBeLessThan(192);
      expect(Math.abs(left + right - 191)).toBeLessThanOrEqual(2);
    }
  });

  test('sets all labels on the same line, and shows characters of markup', async () => {
    const [small, tall, deep] = [await inkOf('cross'), await inkOf('dd'), await inkOf('gg')];
    expect(small.bottom).toBe(tall.bottom);
    expect(small.top).toBeGreaterThan(tall.top);
    expect(deep.bottom).toBeGreaterThan(small.bottom);
    const markup = await inkOf('<i>&amp;');
    expect(markup.right - markup.left).toBeGreaterThan(50);
  });
});

test('names of single pictures sort as their numbers do', () => {
  const names = [9, 10, 9_999, 10_000, 99_999].map((index) => pictureName(index, 100_000));
  expect(names).toEqual(['00009.png', '00010.png', '09999.png', '10000.png', '99999.png']);
  expect(pictureName(7, 10_000)).toBe('0007.png');
});
