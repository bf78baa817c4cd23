/**
 * Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011). A draw depends on (seed, stream, step, sample id) alone, so it is the same wherever and whenever
 * it is made. The layout is that of `DrawKey` in native/kernels/kernels.h; noise is drawn natively.
 */
import { elementary } from '../native/elementary.js';

/** Stream numbers, below 256. A run's bits depend on them, so they must never change. */
export const STREAM = {
  /** Noise of training and validation; drawn natively. */
  noise: 0,
  /** The density of t. */
  time: 1,
  /** Original or synthetic caption. */
  caption: 2,
  /** Encoder drop-out. */
  drop: 3,
  /** Initial weights; drawn natively. */
  init: 4,
  /** The sample plan's permutations. */
  plan: 5,
  /** Initial noise of sampling. */
  sampling: 6,
  /** Generated data sets. */
  dataset: 7,
  /** Latents drawn from the autoencoder's posterior; drawn natively. */
  posterior: 8,
  /** Which rows of a data set are digested. */
  identity: 9,
  /** Bootstrap resamples of a study's report. */
  bootstrap: 10,
} as const;

/** The key of a draw; mirrors the native DrawKey. */
export interface DrawKey {
  /** In [0, 2^64). */
  seed: bigint;
  stream: number;
  /** In [0, 2^32). */
  step: number;
  /** In [0, 2^53); the native side takes up to 2^56. */
  sampleId: number;
}

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;

/** Upper 32 bits of the unsigned product. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  // Every sum stays below 2^32.
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + (middle >>> 16) + (carry >>> 16)) >>> 0;
}

/** Ten rounds, from 4 words of counter and 2 words of key to 4 random words, which are written to `out`. */
export function philox4x32(
  out: Uint32Array,
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  k0: number,
  k1: number,
): void {
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(M0, c0);
    const low0 = Math.imul(M0, c0) >>> 0;
    const high1 = mulHigh(M1, c2);
    const low1 = Math.imul(M1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** The two words of the last seed, because splitting a bigint costs more than the cipher. */
let seedWords = { seed: 0n, low: 0, high: 0 };

/** The four words of one group of a key's sequence. */
export function drawWords(key: DrawKey, group: number): Uint32Array {
  const out = new Uint32Array(4);
  const { seed, stream, step, sampleId } = key;
  if (seed !== seedWords.seed) {
    seedWords = { seed, low: Number(seed & 0xffffffffn), high: Number((seed >> 32n) & 0xffffffffn) };
  }
  const sampleHigh = Math.floor(sampleId / 2 ** 32);
  const counter3 = ((stream << 24) | sampleHigh) >>> 0;
  philox4x32(out, group >>> 0, sampleId >>> 0, step >>> 0, counter3, seedWords.low, seedWords.high);
  return out;
}

/** Four uniform numbers in (0, 1), from one group: (word + 0.5) 2^-32, which is never 0 or 1. */
export function drawUniforms(key: DrawKey, group = 0): Float64Array<ArrayBuffer> {
  const words = drawWords(key, group);
  const uniforms = new Float64Array(4);
  for (let i = 0; i < 4; i++) uniforms[i] = (words[i]! + 0.5) * 2 ** -32;
  return uniforms;
}

const pair = new Float64Array(2) as Float64Array & [number, number];

/** Two independent standard normal numbers from two uniform ones in (0, 1), by the Box-Muller method. */
export function normalPair(u1: number, u2: number): [number, number] {
  pair[0] = u1;
  pair[1] = u2;
  elementary().normalPairs(pair);
  return [pair[0], pair[1]];
}
