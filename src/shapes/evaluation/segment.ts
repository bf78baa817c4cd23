/** Segmentation: separates the objects of a picture from its background. */
import { LEAST_CONTRAST, PICTURE_SIZE, type Rgb } from '../vocabulary.js';

/** The contrast of a picture's pixels with its background. */
export interface Contrast {
  /**
   * Median of each channel, which is the background's colour if objects cover less than half of the picture.
   */
  background: Rgb;
  /** [64 * 64], luma minus the background's luma. */
  signed: Float32Array;
}

/** Indices of the pixels of one object. */
export type Region = number[];

const AREA = PICTURE_SIZE * PICTURE_SIZE;
/** Smallest luma difference of a pixel, and of a region, that does not count as background or as a smudge. */
const FLOOR = 0.5 * LEAST_CONTRAST;
const LEAST_STRENGTH = 0.75 * LEAST_CONTRAST;
/** Smallest area of an object in pixels; less is ringing (the smallest object covers about 140). */
const LEAST_AREA = 70;

export function contrast(pixels: Uint8Array): Contrast {
  const background = [0, 1, 2].map((channel) => median(pixels, channel)) as unknown as Rgb;
  const signed = Float32Array.from(
    { length: AREA },
    (_, i) =>
      0.299 * (pixels[3 * i]! - background[0]) +
      0.587 * (pixels[3 * i + 1]! - background[1]) +
      0.114 * (pixels[3 * i + 2]! - background[2]),
  );
  return { background, signed };
}

/** The median of a channel, the larger of two, by counting: there are 256 values. */
function median(pixels: Uint8Array, channel: number): number {
  const histogram = new Uint32Array(256);
  for (let i = channel; i < pixels.length; i += 3) histogram[pixels[i]!]!++;
  let value = 0;
  for (let below = histogram[0]!; below <= AREA / 2; below += histogram[value]!) value++;
  return value;
}

/**
 * Finds the objects. Pixels that differ from the background form components; an object is the part of its
 * component above half of the typical contrast. What remains beyond two pixels of it is searched again, so
 * that a faint object next to a bright one is found, but blurred edges and ringing are not.
 */
export function segment({ signed }: Contrast): Region[] {
  const objects: Region[] = [];
  const taken = new Uint8Array(AREA);
  const search = (region: Region): void => {
    if (region.length < LEAST_AREA) return;
    const strength = percentile(region, signed, 0.8);
    if (strength < LEAST_STRENGTH) return;
    const level = Math.max(FLOOR, strength / 2);
    const found = components(region.filter((i) => Math.abs(signed[i]!) >= level)).filter(
      (part) => part.length >= LEAST_AREA,
    );
    if (found.length === 0) return;
    for (const part of found) {
      objects.push(part);
      for (const i of dilate(part, 2)) taken[i] = 1;
    }
    for (const rest of components(region.filter((i) => taken[i] === 0))) search(rest);
  };
  const all: Region = [];
  for (let i = 0; i < AREA; i++) if (Math.abs(signed[i]!) >= FLOOR) all.push(i);
  for (const region of components(all)) search(region);
  return objects;
}

/** The value of |contrast| below which this fraction of a region's pixels is. */
export function percentile(region: Region, signed: Float32Array, share: number): number {
  const values = region.map((i) => Math.abs(signed[i]!)).sort((a, b) => a - b);
  return values[Math.min(values.length - 1, Math.floor(share * values.length))] ?? 0;
}

/** The 4-connected components of a region. */
function components(region: Region): Region[] {
  const free = new Uint8Array(AREA);
  for (const i of region) free[i] = 1;
  return region.flatMap((start) => (free[start] === 1 ? [grow([start], free, AREA)] : []));
}

/** All pixels within a number of 4-connected steps of a region. */
export function dilate(region: Region, steps: number): Region {
  return grow(region, new Uint8Array(AREA).fill(1), steps);
}

/** A region and the free pixels within a number of steps over free pixels; none of them is free then. */
function grow(region: Region, free: Uint8Array, steps: number): Region {
  for (const i of region) free[i] = 0;
  const grown = [...region];
  for (let step = 0, front = 0; step < steps && front < grown.length; step++) {
    for (const end = grown.length; front < end; front++) {
      for (const next of neighbours(grown[front]!)) {
        if (free[next] === 0) continue;
        free[next] = 0;
        grown.push(next);
      }
    }
  }
  return grown;
}

function neighbours(i: number): number[] {
  const column = i % PICTURE_SIZE;
  const near: number[] = [];
  if (column > 0) near.push(i - 1);
  if (column < PICTURE_SIZE - 1) near.push(i + 1);
  if (i >= PICTURE_SIZE) near.push(i - PICTURE_SIZE);
  if (i < AREA - PICTURE_SIZE) near.push(i + PICTURE_SIZE);
  return near;
}
