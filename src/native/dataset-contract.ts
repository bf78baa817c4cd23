/** The boundary's data set: mapped files and their columns. The rules are in contract.ts. */

/** The element types of stored values. Arithmetic happens in fp32, to which float64 is rounded. */
export const ELEMENT_BYTES = { float16: 2, bfloat16: 2, float32: 4, float64: 8 } as const;
export type ElementType = keyof typeof ELEMENT_BYTES;

export interface ColumnSpec {
  /** "latent", "original.clip_l", "synthetic.t5_pooled", ... */
  role: string;
  type: ElementType;
  /** Elements of a row. */
  width: number;
  /** Bytes from one row to the next within a segment; more than a row has where others lie between. */
  rowBytes: number;
  /**
   * Four numbers for each run of rows: the file's index, the first row, the number of rows, and the byte
   * offset of the first in the file.
   */
  segments: Float64Array;
}

export interface DatasetSpec {
  files: { path: string; bytes: number }[];
  /** Rows in the segments of each column. */
  storedRows: number;
  /** The stored row of each row, for a set of selected rows; null: all, as they are stored. */
  order: Float64Array | null;
  columns: ColumnSpec[];
  /** What the model sees of a latent z is (z - latentShift) * latentScale. */
  latentShift: number;
  latentScale: number;
}

export interface ColumnScan {
  min: number;
  max: number;
  mean: number;
  std: number;
  nonFinite: number;
  /** Rows with a non-finite value, and the first 64 of them. */
  nonFiniteRows: number;
  firstNonFiniteRows: number[];
  histogram: Float64Array;
}

export interface Dataset {
  /** One row of a role as fp32, as it is stored, for tools; training gathers rows natively. */
  row(role: string, row: number): Float32Array;
  /** Scans rows [from, to) of a role. The histogram has `bins` equal bins over [low, high]. */
  scan(role: string, from: number, to: number, low: number, high: number, bins: number): Promise<ColumnScan>;
  /** 1 for each of these rows whose values are all finite, in every column; otherwise 0. */
  finite(rows: Float64Array): Promise<Float64Array>;
  close(): void;
}
