/** What commands print. */
import { fieldLines, foldedPage } from '../text/columns.js';
import { quantity } from '../text/quantities.js';
import { snakeCase } from '../text/snake-case.js';

/** Prints a result as JSON where --json asks for it, otherwise as the page that `render` makes of it. */
export function printResult<T>(result: T, json: true | undefined, render: (result: T) => string): void {
  if (json) process.stdout.write(`${JSON.stringify(dialect(result), null, 2)}\n`);
  else printPage(render(result));
}

/** On a terminal, no number or word of a page is broken at the right edge. */
export function printPage(text: string, stream: NodeJS.WriteStream = process.stdout): void {
  const { isTTY, columns } = stream;
  stream.write(isTTY && columns > 0 ? foldedPage(text, columns) : text);
}

/** Prints a line of fields; on a terminal that is narrower, in several. */
export function printFields(line: string, stream: NodeJS.WriteStream = process.stdout): void {
  const { isTTY, columns } = stream;
  const lines = isTTY && columns > 0 ? fieldLines(line, columns) : [line];
  stream.write(`${lines.join('\n')}\n`);
}

/** Prints a note on stderr. */
export function printNote(text: string): void {
  printPage(`${text}\n`, process.stderr);
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

/**
 * Ignores write errors of stdout and stderr: a closed terminal or pipe must not cost the run its checkpoint.
 */
export function ignoreOutputErrors(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.removeAllListeners('error');
    stream.on('error', () => {});
  }
}
