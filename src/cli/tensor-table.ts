/** Lists of a file's tensors, for the commands that inspect files. */
import type { Safetensors } from '../formats/safetensors/file.js';
import { alignedRows } from '../text/columns.js';

export type TensorList = ReturnType<typeof tensorsOf>;

export function tensorsOf(file: Pick<Safetensors, 'tensors'>) {
  return [...file.tensors.values()].map(({ name, dtype, shape }) => ({ name, dtype, shape }));
}

/** A name from a file as it is, or quoted with escapes if it has other characters than printable ASCII. */
function quotedName(name: string): string {
  return /^[\x20-\x7e]*$/.test(name) ? name : JSON.stringify(name);
}

export function tensorLines(tensors: TensorList): string[] {
  const rows = tensors.map(({ name, dtype, shape }) => [quotedName(name), dtype, `[${shape.join(', ')}]`]);
  return alignedRows(rows, 'left').map((line) => `  ${line}`);
}
