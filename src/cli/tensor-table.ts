/** Lists of a file's tensors, for the commands that inspect files. */
import type { Safetensors } from '../formats/safetensors/file.js';

export interface TensorLine {
  name: string;
  dtype: string;
  shape: number[];
}

export function tensorsOf(file: Pick<Safetensors, 'tensors'>): TensorLine[] {
  return [...file.tensors.values()].map(({ name, dtype, shape }) => ({ name, dtype, shape }));
}

/** A name from a file, with control characters escaped. */
function printable(name: string): string {
  return /^[\x20-\x7e]*$/.test(name) ? name : JSON.stringify(name);
}

export function tensorLines(tensors: readonly TensorLine[]): string[] {
  const names = tensors.map(({ name }) => printable(name));
  const width = Math.max(0, ...names.map((name) => Math.min(name.length, 80)));
  return tensors.map(
    ({ dtype, shape }, i) => `  ${names[i]!.padEnd(width)}  ${dtype.padEnd(4)} [${shape.join(', ')}]`,
  );
}
