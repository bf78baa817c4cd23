/** The memory of a run or a model, part by part. */

export interface MemoryPart {
  /** The kind of memory; after a comma, how many arrays or which type. */
  name: string;
  bytes: number;
}

/**
 * Sums the parts of each kind, largest first: "gradients, 10 x fp32" and "gradients, 9 x fp32" become
 * "gradients".
 */
export function addUp(parts: readonly MemoryPart[]): MemoryPart[] {
  const sums = new Map<string, number>();
  for (const { name, bytes } of parts) {
    const kind = name.split(',')[0]!;
    sums.set(kind, (sums.get(kind) ?? 0) + bytes);
  }
  return [...sums].map(([name, bytes]) => ({ name, bytes })).sort((a, b) => b.bytes - a.bytes);
}

export function totalBytes(parts: readonly { bytes: number }[]): number {
  return parts.reduce((sum, { bytes }) => sum + bytes, 0);
}
