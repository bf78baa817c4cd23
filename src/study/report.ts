/** Writes the report of a study: report.md, report.json and the figures. */
import { cpus } from 'node:os';
import { join } from 'node:path';
import { makeFolders, replaceFile, writeDurably } from '../files/io.js';
import { native } from '../native/load.js';
import { snakeCase } from '../text/snake-case.js';
import { figuresOf, writeFigure, writePictures } from './figures.js';
import { renderReport } from './markdown.js';
import type { Occasion } from './result-types.js';
import { resultsOf } from './results.js';

/** Digits of a number in report.json. */
const DIGITS = 6;

/** What has the names of data sets as keys. */
const BY_DATA: ReadonlySet<string> = new Set(['losses', 'real']);

/** For JSON.stringify: the keys are in snake_case. */
export function asReported(key: string, value: unknown): unknown {
  if (typeof value === 'number') return Number(value.toPrecision(DIGITS));
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value;
  const renamed = BY_DATA.has(key) ? (name: string) => name : snakeCase;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [renamed(name), inner]));
}

/** The hardware of this machine. */
function occasion(): Occasion {
  const { isa } = native().host();
  const [first] = cpus();
  return {
    date: new Date().toISOString().slice(0, 10),
    hardware: `${first?.model.trim() ?? 'unknown processor'}, ${cpus().length} processors, ${isa}`,
  };
}

/**
 * Writes the report of what a study has so far.
 *
 * @param out folder of the report; its files of these names are replaced.
 * @returns how many runs the study has, and how many are complete.
 */
export async function writeReport(dir: string, out: string, when = occasion()) {
  const { results, runs } = await resultsOf(dir);
  await makeFolders(out);
  const figures = figuresOf(results, runs);
  for (const figure of figures) await writeFigure(out, figure);
  const pictures = await writePictures(dir, out, results, runs);
  const write = async (name: string, text: string) => {
    await replaceFile(join(out, name), (temporary) => writeDurably(temporary, text));
  };
  await write('report.json', `${JSON.stringify({ ...when, ...results }, asReported, 1)}\n`);
  await write('report.md', renderReport(results, when, figures, pictures));
  const all = results.variants.flatMap((variant) => variant.runs);
  return { runs: all.length, complete: all.filter(({ state }) => state === 'scored').length };
}
