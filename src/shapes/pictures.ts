/** Grids of labelled pictures, and single ones. */
import { rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import sharp, { type OutputInfo, type OverlayOptions } from 'sharp';
import { makeFolders, writeFailure } from '../files/io.js';
import { FONT_FAMILY, FONT_FILE } from '../plots/font.js';
import { PICTURE_SIZE } from './vocabulary.js';

/** A picture [height, width, 3], and the text below it. */
interface LabelledPicture {
  pixels: Uint8Array;
  label: string;
}

/** Pictures are enlarged by the least whole factor that makes their longer side at least this long. */
const LEAST_SIDE = 192;
const GAP = 16;
const LABEL_GAP = 8;
const PAPER = '#ffffff';
const INK = '#202428';
const FRAME = '#c8ccd0';

const FONT = { font: `${FONT_FAMILY} 12`, fontfile: FONT_FILE };
/** Distance between the baselines of a label in this font, in pixels. */
const LINE = 15;

interface GridOptions {
  /** Pictures per row; null chooses a grid that is about as wide as high. */
  columns?: number | null;
  /** Size of every picture. */
  size?: { width: number; height: number };
}

/**
 * Writes a grid of pictures, each enlarged and with its label below, in the format of the name's ending:
 * .png, .jpg or .webp.
 *
 * @throws OrchestratorError ERR_FILE_WRITE.
 */
export async function writeGrid(
  pictures: LabelledPicture[],
  path: string,
  { columns = null, size = { width: PICTURE_SIZE, height: PICTURE_SIZE } }: GridOptions = {},
): Promise<{ width: number; height: number }> {
  const perRow = Math.min(columns ?? Math.ceil(Math.sqrt(pictures.length)), pictures.length);
  const factor = Math.ceil(LEAST_SIDE / Math.max(size.width, size.height));
  const tile = { width: factor * size.width, height: factor * size.height };
  // A label has at least the width of a picture of the usual size.
  const column = Math.max(tile.width, LEAST_SIDE);
  const width = GAP + perRow * (column + GAP);
  const layers: OverlayOptions[] = [];
  let top = GAP;
  for (let first = 0; first < pictures.length; first += perRow) {
    let lines = 0;
    for (const [i, { pixels, label }] of pictures.slice(first, first + perRow).entries()) {
      const left = GAP + i * (column + GAP);
      const middle = (inner: number) => left + Math.round((column - inner) / 2);
      layers.push({ input: await framed(pixels, size, tile), left: middle(tile.width) - 1, top: top - 1 });
      const text = await typeset(label, column);
      if (text === null) continue;
      layers.push({ input: text.data, left: middle(text.info.width), top: top + tile.height + LABEL_GAP });
      lines = Math.max(lines, Math.ceil(text.info.height / LINE));
    }
    top += tile.height + LABEL_GAP + lines * LINE + GAP;
  }
  try {
    await makeFolders(dirname(path));
    await sharp({ create: { width, height: top, channels: 3, background: PAPER } })
      .composite(layers)
      .toFile(path);
  } catch (cause) {
    throw writeFailure(path, cause);
  }
  return { width, height: top };
}

/** "0007.png" of up to 10,000 pictures, with more digits of more, so that the names sort as the numbers do. */
export function pictureName(index: number, count: number): string {
  const digits = Math.max(4, String(count - 1).length);
  return `${String(index).padStart(digits, '0')}.png`;
}

/** A picture [height, width, 3], and what it was drawn for, as JSON has it. */
interface SinglePicture {
  pixels: Uint8Array;
  origin: object;
}

/** In a folder of single pictures: a line for each, in their order, with its `file` and what it was drawn for. */
const ORIGINS = 'prompts.jsonl';

/**
 * Writes each picture as a file of its own, in its own size: 0000.png, 0001.png, ..., and then `prompts.jsonl`. After a
 * failure nothing of it is left, so that the folder can be used again.
 *
 * @param folder A folder that is not there yet, or is empty.
 * @throws OrchestratorError ERR_FILE_WRITE.
 */
export async function writeEach(
  pictures: readonly SinglePicture[],
  folder: string,
  size: { width: number; height: number },
): Promise<void> {
  await makeFolders(folder);
  const written: string[] = [];
  const write = async (name: string, content: (path: string) => Promise<unknown>) => {
    const path = join(folder, name);
    written.push(path);
    try {
      await content(path);
    } catch (cause) {
      for (const one of written) await rm(one, { force: true });
      throw writeFailure(path, cause);
    }
  };
  const lines: string[] = [];
  for (const [i, { pixels, origin }] of pictures.entries()) {
    const file = pictureName(i, pictures.length);
    await write(file, (path) => sharp(pixels, { raw: { ...size, channels: 3 } }).toFile(path));
    lines.push(`${JSON.stringify({ file, ...origin })}\n`);
  }
  await write(ORIGINS, (path) => writeFile(path, lines.join('')));
}

/** An enlarged picture with a thin frame around it. */
function framed(
  pixels: Uint8Array,
  size: { width: number; height: number },
  tile: { width: number; height: number },
): Promise<Buffer> {
  return sharp(pixels, { raw: { ...size, channels: 3 } })
    .resize(tile.width, tile.height, { kernel: 'cubic' })
    .extend({ top: 1, bottom: 1, left: 1, right: 1, background: FRAME })
    .png()
    .toBuffer();
}

/**
 * A label as a picture, with lines that are broken to a width in pixels and centred; null if it is empty. Its
 * upper edge is that of the tallest letters, whichever letters the label has.
 */
async function typeset(label: string, width: number): Promise<{ data: Buffer; info: OutputInfo } | null> {
  const markup = label.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);
  // The result is cut to its ink. A tall character on a line of its own, which is removed afterwards, makes
  // it begin at a known height.
  const text = `<span foreground="${INK}">|\n${markup}</span>`;
  const { data, info } = await sharp({
    text: { ...FONT, text, width, align: 'centre', wrap: 'word-char', rgba: true },
  })
    .png()
    .toBuffer({ resolveWithObject: true });
  if (info.height <= LINE) return null;
  return sharp(data)
    .extract({ left: 0, top: LINE, width: info.width, height: info.height - LINE })
    .toBuffer({ resolveWithObject: true });
}
