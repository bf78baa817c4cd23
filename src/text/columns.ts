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

/** Names and values as lines, with the values aligned. */
export function namedRows(values: Readonly<Record<string, string>>): string[] {
  return alignedRows(Object.entries(values), 'left');
}
