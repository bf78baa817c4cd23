import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import { textUnits, wrapText } from '../../../src/shapes/glyphs.js';
import { writeGrid } from '../../../src/shapes/pictures.js';
import { temporaryFolder } from '../../support/folders.js';

let dir: string;
beforeAll(() => {
  dir = temporaryFolder();
});

function plain(r: number, g: number, b: number): Uint8Array {
  return Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => [r, g, b][i % 3]!);
}

describe('writeGrid', () => {
  test('puts pictures side by side, each with its label below', async () => {
    const path = join(dir, 'deeper', 'grid.png');
    const pictures = [
      { pixels: plain(255, 0, 0), label: 'a red picture' },
      { pixels: plain(0, 255, 0), label: 'green' },
      { pixels: plain(0, 0, 255), label: '' },
    ];
    const size = await writeGrid(pictures, path, 2);
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
    const second = 16 + 192 + 8 + 16 + 16;
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
});

describe('wrapText', () => {
  test('breaks between words, and within a word that is longer than a line', () => {
    const text = 'a large red circle at the top left on a black background';
    const lines = wrapText(text, 100);
    expect(lines.join(' ')).toBe(text);
    expect(lines.length).toBeGreaterThan(1);
    for (const line of lines) expect(textUnits(line)).toBeLessThanOrEqual(100);
    const broken = wrapText('m'.repeat(40), 100);
    expect(broken.join('')).toBe('m'.repeat(40));
    for (const line of broken) expect(textUnits(line)).toBeLessThanOrEqual(100);
  });
});
