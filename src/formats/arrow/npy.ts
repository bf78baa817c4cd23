/** The header of an array that `numpy.save` wrote (numpy/lib/format.py, versions 1 to 3). */
import type { ElementType } from '../../native/dataset-contract.js';

export interface NpyHeader {
  /** All bytes before the values. */
  header: Buffer;
  /** NumPy's name of the type, such as "<f2". */
  descr: string;
  /** Null for other types: bfloat16 of ml_dtypes is stored as bytes of two ("<V2"), which do not say so. */
  type: ElementType | null;
  shape: number[];
  /** Whether the first axis varies fastest, as in Fortran. */
  isColumnMajor: boolean;
}

const MAGIC = Buffer.from('\x93NUMPY', 'latin1');
const TYPES: Readonly<Record<string, ElementType>> = { '<f2': 'float16', '<f4': 'float32', '<f8': 'float64' };

/** The header at the start of `bytes`; null if they do not begin with one. */
export function readNpyHeader(bytes: Buffer): NpyHeader | null {
  if (bytes.length < 12 || !bytes.subarray(0, 6).equals(MAGIC)) return null;
  const long = bytes[6]! >= 2;
  const start = long ? 12 : 10;
  const end = start + (long ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8));
  if (end > bytes.length) return null;
  const text = bytes.toString('latin1', start, end);
  const descr = /'descr': '([^']+)'/.exec(text)?.[1];
  const order = /'fortran_order': (True|False)/.exec(text)?.[1];
  const sides = /'shape': \(([\d, ]*)\)/.exec(text)?.[1];
  if (descr === undefined || sides === undefined || order === undefined) return null;
  const shape = (sides.match(/\d+/g) ?? []).map(Number);
  return {
    header: Buffer.from(bytes.subarray(0, end)),
    descr,
    type: TYPES[descr] ?? null,
    shape,
    isColumnMajor: order === 'True' && shape.length > 1,
  };
}
