/** Grids of labelled pictures, as PNG. */
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import sharp from 'sharp';
import { writeFailure } from '../files/io.js';
import { LINE_UNITS, textPath, textUnits, wrapText } from './glyphs.js';
import { PICTURE_SIZE } from './vocabulary.js';

/** A picture [64, 64, 3], and the text below it. */
export interface LabelledPicture {
  pixels: Uint8Array;
  label: string;
}

const TILE = 192;
const GAP = 16;
const UNIT = 1.55;
const STROKE = 1.35;
const LINE = (LINE_UNITS + 2) * UNIT;
const LABEL_GAP = 8;
const PAPER = '#ffffff';
const INK = '#202428';
const FRAME = '#c8ccd0';

/**
 * Writes a grid of pictures as PNG, each enlarged three times and with its label below.
 *
 * @param columns pictures per row; null chooses a grid that is about as wide as high.
 * @throws OrchestratorError ERR_FILE_WRITE.
 */
export async function writeGrid(
  pictures: LabelledPicture[],
  path: string,
  columns: number | null = null,
): Promise<{ width: number; height: number }> {
  const perRow = Math.min(columns ?? Math.ceil(Math.sqrt(pictures.length)), pictures.length);
  const labels = pictures.map(({ label }) => wrapText(label, TILE / UNIT));
  const rows = Math.ceil(pictures.length / perRow);
  const labelLines = Array.from({ length: rows }, (_, row) =>
    Math.max(...labels.slice(row * perRow, (row + 1) * perRow).map((lines) => lines.length)),
  );
  const tops: number[] = [];
  let height = GAP;
  for (const lines of labelLines) {
    tops.push(height);
    height += TILE + LABEL_GAP + Math.ceil(lines * LINE) + GAP;
  }
  const width = GAP + perRow * (TILE + GAP);
  const corner = (i: number) => ({
    left: GAP + (i % perRow) * (TILE + GAP),
    top: tops[Math.floor(i / perRow)]!,
  });

  const tiles = await Promise.all(
    pictures.map(async ({ pixels }, i) => ({ input: await enlarge(pixels), ...corner(i) })),
  );
  const drawing = labels.map((lines, i) => draw(lines, corner(i).left, corner(i).top)).join('');
  const overlay = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${drawing}</svg>`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await sharp({ create: { width, height, channels: 3, background: PAPER } })
      .composite([...tiles, { input: Buffer.from(overlay), left: 0, top: 0 }])
      .png()
      .toFile(path);
  } catch (cause) {
    throw writeFailure(path, cause);
  }
  return { width, height };
}

async function enlarge(pixels: Uint8Array): Promise<Buffer> {
  const raw = { width: PICTURE_SIZE, height: PICTURE_SIZE, channels: 3 as const };
  return sharp(pixels, { raw }).resize(TILE, TILE, { kernel: 'cubic' }).png().toBuffer();
}

/** A thin frame around the picture, and its label, with each line centred. */
function draw(lines: string[], left: number, top: number): string {
  const frame = `<rect x="${left - 0.5}" y="${top - 0.5}" width="${TILE + 1}" height="${TILE + 1}" fill="none" stroke="${FRAME}"/>`;
  const path = lines
    .map((line, i) => {
      const indent = Math.max(0, (TILE - textUnits(line) * UNIT) / 2);
      return textPath(line, left + indent, top + TILE + LABEL_GAP + i * LINE, UNIT);
    })
    .join('');
  return `${frame}<path d="${path}" fill="none" stroke="${INK}" stroke-width="${STROKE}" stroke-linecap="round" stroke-linejoin="round"/>`;
}
