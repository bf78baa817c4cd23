/** Memory that a run or a model takes, part by part. */

export interface MemoryPart {
  /** What it is; after a comma how many, or in which type. */
  name: string;
  bytes: number;
}

/** Parts of the same kind as one, largest first: "gradients, 10 x fp32" and "gradients, 9 x fp32" are "gradients". */
export function addUp(parts: readonly MemoryPart[]): MemoryPart[] {
  const sums = new Map<string, number>();
  for (const { name, bytes } of parts) {
    const kind = name.split(',')[0]!;
    sums.set(kind, (sums.get(kind) ?? 0) + bytes);
  }
  return [...sums].map(([name, bytes]) => ({ name, bytes })).sort((a, b) => b.bytes - a.bytes);
}

export function totalBytes(parts: readonly MemoryPart[]): number {
  return parts.reduce((sum, { bytes }) => sum + bytes, 0);
}
