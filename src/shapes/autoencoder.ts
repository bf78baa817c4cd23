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

/** The largest u + v of Y, Cb and Cr. */
const ORDERS = [3, 1, 1];

/** The plane (0 Y, 1 Cb, 2 Cr) of every latent channel, and its horizontal and vertical frequency. */
const CHANNELS = ORDERS.flatMap((order, plane) => {
  const frequencies: { plane: number; u: number; v: number }[] = [];
  for (let sum = 0; sum <= order; sum++) {
    for (let v = 0; v <= sum; v++) frequencies.push({ plane, u: sum - v, v });
  }
  return frequencies;
});

let basis: Float64Array[] | null = null;

/** DCT-II basis: cosines()[u][x]. It is computed on first use, because that needs the addon. */
function cosines(): Float64Array[] {
  basis ??= [0, 1, 2, 3].map((u) =>
    Float64Array.from({ length: BLOCK }, (_, x) => {
      const cosine = elementary().cos(((2 * x + 1) * u * Math.PI) / (2 * BLOCK));
      return Math.sqrt((u === 0 ? 1 : 2) / BLOCK) * cosine;
    }),
  );
  return basis;
}

/** Encodes [64, 64, 3] bytes as a standardised latent [16, 8, 8]. */
export function encodePicture(pixels: Uint8Array): Float32Array {
  const rows = toPlanes(pixels).map((plane, i) =>
    cosines()
      .slice(0, ORDERS[i]! + 1)
      .map((wave) => transformRows(plane, wave)),
  );
  const latent = new Float32Array(LATENT_CHANNELS * BLOCKS);
  CHANNELS.forEach(({ plane, u, v }, c) => {
    const [across, down] = [rows[plane]![u]!, cosines()[v]!];
    for (let block = 0; block < BLOCKS; block++) {
      const top = Math.floor(block / LATENT_SIDE) * PICTURE_SIZE + (block % LATENT_SIDE);
      let sum = 0;
      for (let y = 0; y < BLOCK; y++) sum += across[top + y * LATENT_SIDE]! * down[y]!;
      latent[c * BLOCKS + block] = ((sum - LATENT_MEAN[c]!) / LATENT_STD[c]!) * LATENT_GAIN[c]!;
    }
  });
  return latent;
}

/** The coefficient of each 8 pixels of a plane's rows: [64, 8]. */
function transformRows(plane: Float64Array, wave: Float64Array): Float64Array {
  const rows = new Float64Array(PICTURE_SIZE * LATENT_SIDE);
  for (let i = 0; i < rows.length; i++) {
    let sum = 0;
    for (let x = 0; x < BLOCK; x++) sum += plane[i * BLOCK + x]! * wave[x]!;
    rows[i] = sum;
  }
  return rows;
}

/** Y, Cb and Cr, each from -0.5 to 0.5. */
function toPlanes(pixels: Uint8Array): Float64Array[] {
  const [luma, cb, cr] = emptyPlanes();
  for (let i = 0; i < luma.length; i++) {
    const r = pixels[3 * i]! / 255;
    const g = pixels[3 * i + 1]! / 255;
    const b = pixels[3 * i + 2]! / 255;
    const y = 0.299 * r + 0.587 * g + 0.114 * b;
    luma[i] = y - 0.5;
    cb[i] = (b - y) / 1.772;
    cr[i] = (r - y) / 1.402;
  }
  return [luma, cb, cr];
}

function emptyPlanes(): [Float64Array, Float64Array, Float64Array] {
  const area = PICTURE_SIZE * PICTURE_SIZE;
  return [new Float64Array(area), new Float64Array(area), new Float64Array(area)];
}

/** Decodes a latent [16, 8, 8] to [64, 64, 3] bytes. `offset` is the index of its first element. */
export function decodeLatent(latents: Float32Array, offset = 0): Uint8Array {
  const planes = emptyPlanes();
  CHANNELS.forEach(({ plane, u, v }, c) => {
    const [target, across, down] = [planes[plane]!, cosines()[u]!, cosines()[v]!];
    for (let block = 0; block < BLOCKS; block++) {
      const standard = latents[offset + c * BLOCKS + block]! / LATENT_GAIN[c]!;
      const value = standard * LATENT_STD[c]! + LATENT_MEAN[c]!;
      const corner = (Math.floor(block / LATENT_SIDE) * PICTURE_SIZE + (block % LATENT_SIDE)) * BLOCK;
      for (let y = 0; y < BLOCK; y++) {
        const row = value * down[y]!;
        for (let x = 0; x < BLOCK; x++) target[corner + y * PICTURE_SIZE + x]! += row * across[x]!;
      }
    }
  });
  const [luma, cb, cr] = planes;
  const pixels = new Uint8Array(3 * luma.length);
  for (let i = 0; i < luma.length; i++) {
    const y = luma[i]! + 0.5;
    const r = y + 1.402 * cr[i]!;
    const b = y + 1.772 * cb[i]!;
    pixels[3 * i] = toByte(r);
    pixels[3 * i + 1] = toByte((y - 0.299 * r - 0.114 * b) / 0.587);
    pixels[3 * i + 2] = toByte(b);
  }
  return pixels;
}

function toByte(value: number): number {
  // NaN becomes 0, like all values below the range.
  return value > 0 ? Math.min(255, Math.round(255 * value)) : 0;
}
