/** The Frechet distance between two sets of pictures, over features that are computed without a network. */
import { encodePicture, LATENT_CHANNELS, LATENT_SIDE } from '../autoencoder.js';
import { eigenvaluesOf, product, squareRoot } from './symmetric.js';

/**
 * The features' name in reports. They are not those of FID (Inception) nor of CLIP, so neither these numbers
 * nor their scale can be compared with such distances.
 */
export const FEATURES = 'latent moments';

/** Mean and deviation of each latent channel over the places of a picture. */
export const FEATURE_COUNT = 2 * LATENT_CHANNELS;

/**
 * The latent moments of a picture [64, 64, 3]: first the mean of each of the 16 channels of its latent over the
 * 8 x 8 places, then the standard deviation of each. Means tell brightness and tint; deviations tell how much
 * the blocks differ in colour, and how sharp the edges are.
 */
export function latentMoments(pixels: Uint8Array): Float64Array {
  const places = LATENT_SIDE * LATENT_SIDE;
  const latent = encodePicture(pixels);
  const moments = new Float64Array(FEATURE_COUNT);
  for (let c = 0; c < LATENT_CHANNELS; c++) {
    const values = latent.subarray(c * places, (c + 1) * places);
    const mean = values.reduce((sum, value) => sum + value, 0) / places;
    const variance = values.reduce((sum, value) => sum + (value - mean) * (value - mean), 0) / places;
    moments[c] = mean;
    moments[LATENT_CHANNELS + c] = Math.sqrt(variance);
  }
  return moments;
}

/** A normal distribution of features. */
export interface Normal {
  mean: Float64Array;
  /** Row-major [n, n]. */
  covariance: Float64Array;
}

/** Mean and covariance of rows of equal length; at least two. */
export function normalOf(rows: readonly Float64Array[]): Normal {
  const n = rows[0]!.length;
  const mean = new Float64Array(n);
  for (const row of rows)
    row.forEach((value, i) => {
      mean[i]! += value / rows.length;
    });
  const covariance = new Float64Array(n * n);
  const centred = new Float64Array(n);
  for (const row of rows) {
    for (let i = 0; i < n; i++) centred[i] = row[i]! - mean[i]!;
    for (let i = 0; i < n; i++) {
      for (let j = 0; j <= i; j++) covariance[i * n + j]! += centred[i]! * centred[j]!;
    }
  }
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      covariance[i * n + j]! /= rows.length - 1;
      covariance[j * n + i] = covariance[i * n + j]!;
    }
  }
  return { mean, covariance };
}

/** What pictures are compared with. Features are first divided by the deviations that they have there. */
export class FrechetReference {
  readonly #mean: Float64Array;
  readonly #deviation: Float64Array;
  /** Square root of the covariance of the standardised features, which is their correlation. */
  readonly #root: Float64Array;

  constructor({ mean, covariance }: Normal) {
    const n = mean.length;
    this.#mean = mean;
    // A feature that is constant in the reference counts as it is.
    this.#deviation = mean.map((_, i) => Math.sqrt(covariance[i * n + i]!) || 1);
    const correlation = covariance.map(
      (value, i) => value / (this.#deviation[i % n]! * this.#deviation[Math.floor(i / n)]!),
    );
    this.#root = squareRoot(correlation, n);
  }

  standardised(row: Float64Array): Float64Array {
    return row.map((value, i) => (value - this.#mean[i]!) / this.#deviation[i]!);
  }

  /**
   * |m|^2 + tr(R) + tr(S) - 2 tr((R S)^(1/2)) for the mean m and covariance S of standardised rows, and the
   * reference's correlation R (Dowson & Landau, 1982). Like every such distance it is larger for fewer rows.
   *
   * @param rows at least two, as `standardised` gives them.
   */
  distance(rows: readonly Float64Array[]): number {
    const n = this.#mean.length;
    const { mean, covariance } = normalOf(rows);
    // R S has the eigenvalues of the symmetric R^(1/2) S R^(1/2).
    const values = eigenvaluesOf(product(product(this.#root, covariance, n), this.#root, n), n);
    const common = values.reduce((sum, value) => sum + Math.sqrt(Math.max(0, value)), 0);
    let traces = 0;
    for (let i = 0; i < n; i++) {
      traces += covariance[i * n + i]!;
      for (let k = 0; k < n; k++) traces += this.#root[i * n + k]! * this.#root[k * n + i]!;
    }
    return mean.reduce((sum, value) => sum + value * value, 0) + traces - 2 * common;
  }
}
