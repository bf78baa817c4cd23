/** Lines, tables and numbers for people. */

export const print = (line = '') => process.stdout.write(`${line}\n`);

export const goal = (name: string, reached: boolean) =>
  print(`goal: ${name}: ${reached ? 'reached' : 'MISSED'}`);

export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

export const gigaflops = (flopsPerSecond: number) => `${(flopsPerSecond / 1e9).toFixed(0)} GF/s`;
export const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
export const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
export const milliseconds = (seconds: number) => `${(1000 * seconds).toFixed(1)} ms`;

/** Rows as a Markdown table, columns padded. */
export function table(header: string[], rows: string[][]): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  const line = (row: string[]) =>
    `| ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(' | ')} |`;
  const rule = `| ${widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`;
  return [line(header), rule, ...rows.map(line)].join('\n');
}
