/** Text in aligned columns. */

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
  for (let count = rows[0]?.length ?? 0; count > 0; count--) {
    const lines = alignedRows(rows.map((row) => row.slice(0, count)));
    if (lines.every((line) => line.length <= width)) return lines;
  }
  return [];
}

/** A text in lines of at most `width` columns, broken at spaces, each after `indent`. */
export function wrapped(text: string, width: number, indent = ''): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const longer = lines.length === 0 ? '' : `${lines.at(-1)} ${word}`;
    if (longer !== '' && longer.length <= width) lines[lines.length - 1] = longer;
    else lines.push(indent + word);
  }
  return text === '' ? [] : lines;
}

/** Names and values as lines, with the values aligned. */
export function namedRows(values: Readonly<Record<string, string>>): string[] {
  return alignedRows(Object.entries(values), 'left');
}
