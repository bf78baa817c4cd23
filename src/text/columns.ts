/** Text in aligned columns. */
import { stripVTControlCharacters } from 'node:util';

/** Longer cells exceed their column, because names in files can have any length. */
const WIDEST = 80;

/**
 * Rows as lines, with columns two spaces apart. The first column is aligned left, the others to the given
 * side; aligned left, the last cell of a row may exceed its column.
 */
export function alignedRows(
  rows: readonly (readonly string[])[],
  others: 'left' | 'right' = 'right',
): string[] {
  const widthOf = (row: readonly string[], i: number) =>
    others === 'left' && i === row.length - 1 ? 0 : Math.min(row[i]?.length ?? 0, WIDEST);
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => widthOf(row, i))));
  const pad = (cell: string, i: number) =>
    i === 0 || others === 'left' ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!);
  return rows.map((row) => row.map(pad).join('  ').trimEnd());
}

/** Rows as lines of at most `width` characters; columns that do not fit are left out, from the right. */
export function fittedRows(rows: readonly (readonly string[])[], width: number): string[] {
  return rowsThatFit(rows, width).lines;
}

/** The same, and below them which columns had no room. */
export function screenRows(rows: readonly (readonly string[])[], width: number): string[] {
  const { lines, count } = rowsThatFit(rows, width);
  const absent = (rows[0] ?? []).slice(count);
  return absent.length === 0 ? lines : [...lines, `no room here: ${absent.join(', ')} (--json has them)`];
}

function rowsThatFit(rows: readonly (readonly string[])[], width: number) {
  for (let count = rows[0]?.length ?? 0; count > 0; count--) {
    const lines = alignedRows(rows.map((row) => row.slice(0, count)));
    if (lines.every((line) => line.length <= width)) return { lines, count };
  }
  return { lines: [], count: 0 };
}

/** Stands for a space at which no line is broken. */
const HELD = '\0';

/** The same, with commands and names in backticks as one word each, so that they can be copied from the screen. */
function withSpansHeld(text: string): string {
  return text.replaceAll(/`[^`\n]*`/g, (span) => span.replaceAll(' ', HELD));
}

const released = (line: string) => line.replaceAll(HELD, ' ');

/**
 * A text in lines of at most `width` columns, broken at spaces, those after the first with `indent` before them. A
 * word that is longer stays whole, and so does what is in backticks.
 */
export function wrapped(text: string, width: number, indent = ''): string[] {
  const lines = [''];
  for (const [, gap, word] of withSpansHeld(text).matchAll(/( *)([^ ]+)/g) as Iterable<
    [string, string, string]
  >) {
    const line = lines.at(-1)!;
    const longer = `${line}${gap}${word}`;
    // A line that has only its indentation takes the word in any case.
    if (line.trim() === '' || shownLength(longer) <= width) lines[lines.length - 1] = longer;
    else lines.push(indent + word);
  }
  return lines.map(released);
}

/**
 * A page for a screen of `width` columns. A line that is longer is broken at spaces, and goes on below the last of its
 * columns that begins in the left half, where the words fit there.
 */
export function foldedPage(text: string, width: number): string {
  return text
    .split('\n')
    .flatMap((line, i, all) => {
      // A command in one piece, which the terminal breaks, can be copied from the screen.
      const isCommand = line.startsWith('next: ') || /^ *# /.test(all[i - 1] ?? '');
      return isCommand || shownLength(line) <= width ? [line] : foldedLine(line, width);
    })
    .join('\n');
}

function foldedLine(line: string, width: number): string[] {
  const text = stripVTControlCharacters(line);
  const starts = [...text.matchAll(/(?<=\S) {2,}(?=\S)/g)].map(({ index, 0: gap }) => index + gap.length);
  const column = starts.findLast((start) => start <= width / 2) ?? 0;
  const longest = Math.max(
    ...withSpansHeld(text)
      .split(' ')
      .map(({ length }) => length),
  );
  const margin = 2 + text.length - text.trimStart().length;
  return wrapped(line, width, ' '.repeat(column > 0 && column + longest <= width ? column : margin));
}

/**
 * A message of fields, "step 3 | loss 0.2 | ...", in lines of at most `width` columns, broken between fields where each
 * fits. Line feeds stay.
 */
export function fieldLines(message: string, width: number): string[] {
  return withSpansHeld(message)
    .split('\n')
    .flatMap((line) => linesOfFields(line, width))
    .map(released);
}

function linesOfFields(line: string, width: number): string[] {
  const fields = line.split(/(?<= \|) /);
  const lines: string[] = [];
  for (const field of fields) {
    const longer = `${lines.at(-1)} ${field}`;
    if (lines.length > 0 && shownLength(longer) <= width) lines[lines.length - 1] = longer;
    else lines.push(...wrapped(lines.length === 0 ? field : `  ${field}`, width, '  '));
  }
  return lines;
}

/** The columns that a text takes on the screen. */
export function shownLength(text: string): number {
  return stripVTControlCharacters(text).length;
}

/** Names and values as lines, with the values aligned. */
export function namedRows(values: Readonly<Record<string, string>>): string[] {
  return alignedRows(Object.entries(values), 'left');
}
