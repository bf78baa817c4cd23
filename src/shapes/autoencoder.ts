/** The autoencoder of the shapes world, which has no weights. */
import { elementary } from '../native/elementary.js';
import { PICTURE_SIZE } from './vocabulary.js';

/**
 * The latents are each 8 x 8 block's lowest DCT coefficients in YCbCr (BT.601, full range): 16 channels at a
 * downsampling of 8. Channels 0..9 are the coefficients (u, v) of luma with u + v <= 3, channels 10..12 of Cb
 * and 13..15 of Cr with u + v <= 1, each in order of u + v, then of v (the vertical frequency). The DCT is
 * orthonormal, samples are scaled to [-0.5, 0.5], and each channel is standardised by LATENT_MEAN and
 * LATENT_STD and multiplied by LATENT_GAIN.
 */
export const LATENT_CHANNELS = 16;
export const LATENT_SIDE = PICTURE_SIZE / 8;
const BLOCK = 8;
const BLOCKS = LATENT_SIDE * LATENT_SIDE;

/**
 * Mean and standard deviation of each channel over pictures 0 to 19,999 of seed 0 (a test measures the first
 * 2,000).
 */
export const LATENT_MEAN: readonly number[] = [
  -0.8054, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.137, 0, 0, -0.0055, 0, 0,
];
export const LATENT_STD: readonly number[] = [
  3.094, 0.3933, 0.369, 0.1757, 0.1848, 0.1522, 0.08896, 0.1046, 0.08976, 0.09806, 0.5861, 0.1904, 0.1791,
  0.5197, 0.1863, 0.1752,
];

/**
 * Standard deviation that a channel gets: 1 for the averages of a block, 1/2 for the other coefficients.
 * Those are zero except at edges; with a deviation of 1 their tails reach five times as far as the noise, and
 * a model of the demo's size learns edges before it learns where objects are.
 */
export const LATENT_GAIN: readonly number[] = LATENT_STD.map((_, c) =>
  c === 0 || c === 10 || c === 13 ? 1 : 0.5,
);

let basis: Float64Array | null = null;

/** DCT-II basis: cosines()[u * 8 + x]. It is computed on first use, because that needs the addon. */
function cosines(): Float64Array {
  basis ??= Float64Array.from({ length: 4 * BLOCK }, (_, i) => {
    const u = Math.floor(i / BLOCK);
    const x = i % BLOCK;
    const cosine = elementary().cos(((2 * x + 1) * u * Math.PI) / (2 * BLOCK));
    return Math.sqrt((u === 0 ? 1 : 2) / BLOCK) * cosine;
  });
  return basis;
}

/** The horizontal and vertical frequency of every latent channel, and its plane (0 Y, 1 Cb, 2 Cr). */
const CHANNELS: readonly { plane: number; u: number; v: number }[] = [
  ...triangle(3).map((f) => ({ plane: 0, ...f })),
  ...triangle(1).map((f) => ({ plane: 1, ...f })),
  ...triangle(1).map((f) => ({ plane: 2, ...f })),
];

function triangle(order: number): { u: number; v: number }[] {
  const frequencies: { u: number; v: number }[] = [];
  for (let sum = 0; sum <= order; sum++) {
    for (let v = 0; v <= sum; v++) frequencies.push({ u: sum - v, v });
  }
  return frequencies;
}

/** Encodes [64, 64, 3] bytes as a standardised latent [16, 8, 8]. */
export function encodePicture(pixels: Uint8Array): Float32Array {
  const latent = new Float32Array(LATENT_CHANNELS * BLOCKS);
  const planes = toPlanes(pixels);
  for (let by = 0; by < LATENT_SIDE; by++) {
    for (let bx = 0; bx < LATENT_SIDE; bx++) encodeBlock(planes, bx, by, latent);
  }
  return latent;
}

/** The horizontal frequencies of a block's rows, for one plane. */
const rowFrequencies = new Float64Array(BLOCK * 4);

function encodeBlock(planes: Float64Array[], bx: number, by: number, latent: Float32Array): void {
  const waves = cosines();
  let transformed = -1;
  for (let c = 0; c < LATENT_CHANNELS; c++) {
    const { plane, u, v } = CHANNELS[c]!;
    if (plane !== transformed) {
      transformRows(planes[plane]!, bx, by, plane === 0 ? 4 : 2);
      transformed = plane;
    }
    let sum = 0;
    for (let y = 0; y < BLOCK; y++) sum += rowFrequencies[y * 4 + u]! * waves[v * BLOCK + y]!;
    latent[c * BLOCKS + by * LATENT_SIDE + bx] = ((sum - LATENT_MEAN[c]!) / LATENT_STD[c]!) * LATENT_GAIN[c]!;
  }
}

function transformRows(plane: Float64Array, bx: number, by: number, frequencies: number): void {
  const waves = cosines();
  for (let y = 0; y < BLOCK; y++) {
    const row = (by * BLOCK + y) * PICTURE_SIZE + bx * BLOCK;
    for (let u = 0; u < frequencies; u++) {
      let sum = 0;
      for (let x = 0; x < BLOCK; x++) sum += plane[row + x]! * waves[u * BLOCK + x]!;
      rowFrequencies[y * 4 + u] = sum;
    }
  }
}

function toPlanes(pixels: Uint8Array): Float64Array[] {
  const area = PICTURE_SIZE * PICTURE_SIZE;
  const planes = [new Float64Array(area), new Float64Array(area), new Float64Array(area)] as const;
  for (let i = 0; i < area; i++) {
    const r = pixels[3 * i]! / 255;
    const g = pixels[3 * i + 1]! / 255;
    const b = pixels[3 * i + 2]! / 255;
    const y = 0.299 * r + 0.587 * g + 0.114 * b;
    planes[0][i] = y - 0.5;
    planes[1][i] = (b - y) / 1.772;
    planes[2][i] = (r - y) / 1.402;
  }
  return [...planes];
}

/**
 * Decodes a latent [16, 8, 8] to [64, 64, 3] bytes. `offset` is the index of its first element in `latents`.
 */
export function decodeLatent(latents: Float32Array, offset = 0): Uint8Array {
  const area = PICTURE_SIZE * PICTURE_SIZE;
  const planes = [new Float64Array(area), new Float64Array(area), new Float64Array(area)];
  for (let by = 0; by < LATENT_SIDE; by++) {
    for (let bx = 0; bx < LATENT_SIDE; bx++) decodeBlock(latents, offset, bx, by, planes);
  }
  const [luma, cb, cr] = planes as [Float64Array, Float64Array, Float64Array];
  const pixels = new Uint8Array(3 * area);
  for (let i = 0; i < area; i++) {
    const y = luma[i]! + 0.5;
    const r = y + 1.402 * cr[i]!;
    const b = y + 1.772 * cb[i]!;
    pixels[3 * i] = toByte(r);
    pixels[3 * i + 1] = toByte((y - 0.299 * r - 0.114 * b) / 0.587);
    pixels[3 * i + 2] = toByte(b);
  }
  return pixels;
}

function decodeBlock(
  latents: Float32Array,
  offset: number,
  bx: number,
  by: number,
  planes: Float64Array[],
): void {
  const waves = cosines();
  const corner = by * BLOCK * PICTURE_SIZE + bx * BLOCK;
  for (let c = 0; c < LATENT_CHANNELS; c++) {
    const { plane, u, v } = CHANNELS[c]!;
    const standard = latents[offset + c * BLOCKS + by * LATENT_SIDE + bx]! / LATENT_GAIN[c]!;
    const value = standard * LATENT_STD[c]! + LATENT_MEAN[c]!;
    const target = planes[plane]!;
    for (let y = 0; y < BLOCK; y++) {
      const row = value * waves[v * BLOCK + y]!;
      for (let x = 0; x < BLOCK; x++) {
        const at = corner + y * PICTURE_SIZE + x;
        target[at] = target[at]! + row * waves[u * BLOCK + x]!;
      }
    }
  }
}

function toByte(value: number): number {
  // NaN becomes 0, like all values below the range.
  return value > 0 ? Math.min(255, Math.round(255 * value)) : 0;
}
