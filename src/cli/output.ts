/** What commands print. */
import { fieldLines, foldedPage } from '../text/columns.js';
import { quantity } from '../text/quantities.js';

/** Prints a result as JSON where --json asks for it, otherwise as the page that `render` makes of it. */
export function printResult<T>(result: T, json: true | undefined, render: (result: T) => string): void {
  if (json) process.stdout.write(`${JSON.stringify(dialect(result), null, 2)}\n`);
  else printPage(render(result));
}

/** Prints a page. On a terminal, no number or word of it is broken at the right edge. */
export function printPage(text: string): void {
  const { isTTY, columns } = process.stdout;
  process.stdout.write(isTTY && columns > 0 ? foldedPage(text, columns) : text);
}

/** Prints a line of fields; on a terminal that is narrower, in several. */
export function printFields(line: string): void {
  const { isTTY, columns } = process.stdout;
  const lines = isTTY && columns > 0 ? fieldLines(line, columns) : [line];
  process.stdout.write(`${lines.join('\n')}\n`);
}

/** Prints a note on stderr; on a terminal, no word of it is broken at the right edge. */
export function printNote(text: string): void {
  const { isTTY, columns } = process.stderr;
  process.stderr.write(`${isTTY && columns > 0 ? foldedPage(text, columns) : text}\n`);
}

/** Prints a line of fields on stderr; on a terminal that is narrower, in several. */
export function printNoteFields(line: string): void {
  const { isTTY, columns } = process.stderr;
  const lines = isTTY && columns > 0 ? fieldLines(line, columns) : [line];
  process.stderr.write(`${lines.join('\n')}\n`);
}

/** Columns of a page that goes into a file or a pipe. */
const PAGE_COLUMNS = 160;

export function pageColumns(): number {
  return process.stdout.columns || PAGE_COLUMNS;
}

/** Columns for a table that loses none in a file or a pipe. */
export function screenColumns(): number {
  return process.stdout.columns || Number.POSITIVE_INFINITY;
}

/** A number that may not be known. */
export function knownQuantity(value: number | null | undefined): string {
  return value === null || value === undefined ? '-' : quantity(value);
}

/** Names that the configuration or files have for what the code calls otherwise. */
const RENAMED: Readonly<Record<string, string>> = {
  planState: 'plan',
  modelSpec: 'model',
  recompute: 'activation_checkpointing',
  level: 'activation_checkpointing',
};

/**
 * A value as all JSON of the command line has it: keys in snake_case, large numbers as text. Keys that are data,
 * such as names of files, are not in camelCase.
 */
export function dialect(value: unknown): unknown {
  if (typeof value === 'bigint') return value <= Number.MAX_SAFE_INTEGER ? Number(value) : String(value);
  if (Array.isArray(value)) return value.map(dialect);
  if (value === null || typeof value !== 'object') return value;
  if (ArrayBuffer.isView(value)) return Array.from(value as Float64Array);
  const entries = Object.entries(value).map(([key, inner]) => [
    RENAMED[key] ?? snakeCase(key),
    dialect(inner),
  ]);
  return Object.fromEntries(entries);
}

/** "firstNonFiniteRows" is "first_non_finite_rows"; other texts stay as they are. */
function snakeCase(key: string): string {
  if (!/^[a-z][A-Za-z0-9]*$/.test(key)) return key;
  return key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/**
 * Ignores write errors of stdout and stderr: a closed terminal or pipe must not cost the run its checkpoint.
 */
export function ignoreOutputErrors(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.removeAllListeners('error');
    stream.on('error', () => {});
  }
}
