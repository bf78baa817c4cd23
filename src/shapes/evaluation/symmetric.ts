/** Eigenvalues of symmetric matrices, by Jacobi's method; the same bits on every machine. */

interface Eigen {
  /** In no order. */
  values: Float64Array;
  /** Eigenvector k is column k, row-major [n, n]. */
  vectors: Float64Array;
}

/** Sweeps after which rotations have converged for any matrix of a few hundred rows. */
const MOST_SWEEPS = 50;

/** Eigenvalues and eigenvectors of a symmetric matrix [n, n], row-major, which is not changed. */
export function eigenOf(symmetric: Float64Array, n: number): Eigen {
  const vectors = identity(n);
  return { values: diagonalised(symmetric, vectors, n), vectors };
}

/** Its eigenvalues alone, in no order. */
export function eigenvaluesOf(symmetric: Float64Array, n: number): Float64Array {
  return diagonalised(symmetric, null, n);
}

/** Share of a matrix's square sum that may remain outside its diagonal: errors of eigenvalues are its square. */
const CONVERGED = 1e-24;

/** @param vectors are rotated along, unless null. */
function diagonalised(symmetric: Float64Array, vectors: Float64Array | null, n: number): Float64Array {
  const a = Float64Array.from(symmetric);
  const scale = a.reduce((sum, value) => sum + value * value, 0);
  for (let sweep = 0; sweep < MOST_SWEEPS; sweep++) {
    let outside = 0;
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) outside += a[p * n + q]! * a[p * n + q]!;
    }
    if (outside <= CONVERGED * scale) break;
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) rotate(a, vectors, n, p, q);
    }
  }
  return Float64Array.from({ length: n }, (_, i) => a[i * n + i]!);
}

export function identity(n: number): Float64Array {
  const matrix = new Float64Array(n * n);
  for (let i = 0; i < n; i++) matrix[i * n + i] = 1;
  return matrix;
}

/** The rotation of rows and columns p and q that makes a[p, q] zero (Golub & Van Loan, section 8.5). */
function rotate(a: Float64Array, vectors: Float64Array | null, n: number, p: number, q: number): void {
  const apq = a[p * n + q]!;
  if (apq === 0) return;
  const theta = (a[q * n + q]! - a[p * n + p]!) / (2 * apq);
  const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
  const c = 1 / Math.sqrt(t * t + 1);
  const s = t * c;
  // Columns, then rows: a becomes J' a J.
  mix(a, p, q, n, n, c, s);
  mix(a, p * n, q * n, 1, n, c, s);
  if (vectors !== null) mix(vectors, p, q, n, n, c, s);
}

/** Rotates `count` pairs of elements, which begin at i and j and are `stride` apart. */
function mix(
  values: Float64Array,
  i: number,
  j: number,
  stride: number,
  count: number,
  c: number,
  s: number,
): void {
  for (let k = 0; k < count * stride; k += stride) {
    const first = values[i + k]!;
    const second = values[j + k]!;
    values[i + k] = c * first - s * second;
    values[j + k] = s * first + c * second;
  }
}

/** left right, both row-major [n, n]. */
export function product(left: Float64Array, right: Float64Array, n: number): Float64Array {
  const result = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < n; k++) {
      const factor = left[i * n + k]!;
      for (let j = 0; j < n; j++) result[i * n + j]! += factor * right[k * n + j]!;
    }
  }
  return result;
}

/** The symmetric square root of a positive semi-definite matrix. */
export function squareRoot(matrix: Float64Array, n: number): Float64Array {
  const { values, vectors } = eigenOf(matrix, n);
  const scaled = vectors.map((value, i) => value * Math.sqrt(Math.max(0, values[i % n]!)));
  return product(scaled, transposed(vectors, n), n);
}

function transposed(matrix: Float64Array, n: number): Float64Array {
  return matrix.map((_, i) => matrix[(i % n) * n + Math.floor(i / n)]!);
}
