/** The boundary's data set: mapped files and their columns. The rules are in contract.ts. */

/**
 * One role's values in one Arrow record batch: rows x width elements, contiguous, from byteOffset of the
 * file.
 */
export interface ColumnSegment {
  file: number;
  firstRow: number;
  rows: number;
  byteOffset: number;
}

export interface ColumnSpec {
  /** "latent", "original.clip_l", "synthetic.t5_pooled", ... */
  role: string;
  type: 'float16' | 'float32';
  /** Elements of a row. */
  width: number;
  segments: ColumnSegment[];
}

export interface DatasetSpec {
  files: { path: string; bytes: number }[];
  rows: number;
  columns: ColumnSpec[];
}

export interface ColumnScan {
  min: number;
  max: number;
  mean: number;
  std: number;
  nonFinite: number;
  /** First row with a non-finite value, or -1. */
  firstNonFiniteRow: number;
  histogram: Float64Array;
}

export interface Dataset {
  /** One row of a role as fp32, for tools; training gathers rows natively. */
  row(role: string, row: number): Float32Array;
  /** Scans rows [from, to) of a role. The histogram has `bins` equal bins over [low, high]. */
  scan(role: string, from: number, to: number, low: number, high: number, bins: number): Promise<ColumnScan>;
  close(): void;
}
