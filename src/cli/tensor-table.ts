/** Lists of a file's tensors, for the commands that inspect files. */
import type { Safetensors } from '../formats/safetensors/file.js';
import { alignedRows } from '../text/columns.js';

export type TensorList = ReturnType<typeof tensorsOf>;

export function tensorsOf(file: Pick<Safetensors, 'tensors'>) {
  return [...file.tensors.values()].map(({ name, dtype, shape }) => ({ name, dtype, shape }));
}

/** A name from a file, with control characters escaped. */
function printable(name: string): string {
  return /^[\x20-\x7e]*$/.test(name) ? name : JSON.stringify(name);
}

export function tensorLines(tensors: TensorList): string[] {
  const rows = tensors.map(({ name, dtype, shape }) => [printable(name), dtype, `[${shape.join(', ')}]`]);
  return alignedRows(rows, 'left').map((line) => `  ${line}`);
}
