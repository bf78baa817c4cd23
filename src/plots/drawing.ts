/** What drawings are made of, and how they are written: as SVG or as a picture. */
import { writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import sharp from 'sharp';
import { makeFolders, writeFailure } from '../files/io.js';
import { FONT_FAMILY } from './font.js';

/** As many as there are families of formulations. */
export const COLOURS = [
  ...['#1f5fa8', '#c8502d', '#2f8f4e', '#7a4fa3', '#8a6d1b', '#4a4f55'],
  ...['#d38fb0', '#5fb3c9', '#a3b84c', '#e0a030', '#8c3b3b', '#9aa7c7'],
];
export const INK = '#202428';
export const GRID = '#d8dce0';

const escaped = (content: string) => content.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

/** @param more further attributes. */
export function text(x: number, y: number, content: string, more = ''): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${escaped(content)}</text>`;
}

interface Place {
  x: number;
  y: number;
}

export function line(from: Place, to: Place, colour: string, width = 1): string {
  const [x1, y1, x2, y2] = [from.x, from.y, to.x, to.y].map((value) => value.toFixed(1));
  return `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="${colour}" stroke-width="${width}"/>`;
}

/**
 * A drawing on white.
 *
 * @param title What it shows, for those who do not see it.
 */
export function svg(title: string, width: number, height: number, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="${FONT_FAMILY}, sans-serif" font-size="11" fill="${INK}">
<title>${escaped(title)}</title>
<rect width="${width}" height="${height}" fill="#ffffff"/>
${parts.join('\n')}
</svg>
`;
}

/**
 * Writes a drawing in the format of the name's ending: .svg, or .png, .jpg and .webp at twice its size.
 *
 * @throws OrchestratorError ERR_FILE_WRITE.
 */
export async function writeDrawing(path: string, drawing: string): Promise<void> {
  try {
    await makeFolders(dirname(path));
    if (/\.svg$/i.test(path)) await writeFile(path, drawing);
    else await sharp(Buffer.from(drawing), { density: 144 }).toFile(path);
  } catch (cause) {
    throw writeFailure(path, cause);
  }
}
