/** Text in aligned columns. */

/**
 * Rows as lines, with columns two spaces apart. The first column is aligned left, the others to the given
 * side; aligned left, the last cell of a row may exceed its column.
 */
export function alignedRows(
  rows: readonly (readonly string[])[],
  others: 'left' | 'right' = 'right',
): string[] {
  const widthOf = (row: readonly string[], i: number) =>
    others === 'left' && i === row.length - 1 ? 0 : (row[i]?.length ?? 0);
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => widthOf(row, i))));
  const pad = (cell: string, i: number) =>
    i === 0 || others === 'left' ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!);
  return rows.map((row) => row.map(pad).join('  ').trimEnd());
}
