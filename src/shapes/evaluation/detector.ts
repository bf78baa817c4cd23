/** The detector: finds and names the objects of a picture. */
import { coverage, GEOMETRY } from '../render.js';
import {
  COLOR_NAMES,
  COLORS,
  type Color,
  PICTURE_SIZE,
  type Rgb,
  SHAPES,
  type Shape,
} from '../vocabulary.js';
import { type Contrast, contrast, dilate, percentile, type Region, segment } from './segment.js';

/** An object found in a picture; x, y and radius mean the same as in a scene. */
export interface DetectedObject {
  /** The best shape, or null if none fits. */
  shape: Shape | null;
  color: Color;
  x: number;
  y: number;
  radius: number;
  /** Intersection over union with the best shape. */
  fit: number;
}

/** Smallest overlap with which an object counts as a shape. */
const LEAST_FIT = 0.6;

/**
 * Finds the objects of a picture [64, 64, 3]: segments them by contrast, chooses the nearest colour of the
 * palette, and the shape with the best overlap when drawn at the object's centroid with its area.
 */
export function detect(pixels: Uint8Array): DetectedObject[] {
  const ground = contrast(pixels);
  return describeAll(pixels, ground, segment(ground));
}

/** The same, if the picture has this many objects; null for any other number, which is told soon. */
export function detectExactly(pixels: Uint8Array, count: number): DetectedObject[] | null {
  const ground = contrast(pixels);
  const regions = segment(ground);
  return regions.length === count ? describeAll(pixels, ground, regions) : null;
}

function describeAll(pixels: Uint8Array, ground: Contrast, regions: Region[]): DetectedObject[] {
  return regions.map((region) => describe(pixels, ground, region, surroundings(region, regions)));
}

/**
 * The pixels of an object and its blurred rim: those within 3 pixels that do not belong to another object.
 */
function surroundings(region: Region, regions: Region[]): Region {
  const others = new Set(regions.filter((other) => other !== region).flatMap((other) => dilate(other, 1)));
  return dilate(region, 3).filter((i) => !others.has(i));
}

function describe(
  pixels: Uint8Array,
  { background, signed }: Contrast,
  region: Region,
  near: Region,
): DetectedObject {
  const sign = region.reduce((sum, i) => sum + signed[i]!, 0) < 0 ? -1 : 1;
  const full = sign * percentile(region, signed, 0.6);
  const mask = near.map((i) => Math.min(Math.max(signed[i]! / full, 0), 1));
  return { color: nearestColor(pixels, background, near, signed, full), ...bestShape(near, mask) };
}

/**
 * The colour nearest to the sum of (pixel - background) over the sum of coverage. Blurring spreads a colour
 * over the rim; the sum includes it again.
 */
function nearestColor(
  pixels: Uint8Array,
  background: Rgb,
  near: Region,
  signed: Float32Array,
  full: number,
): Color {
  let covered = 0;
  const sums = [0, 0, 0];
  for (const i of near) {
    covered += signed[i]! / full;
    for (let c = 0; c < 3; c++) sums[c] = sums[c]! + pixels[3 * i + c]! - background[c]!;
  }
  const color = sums.map((sum, c) => background[c]! + sum / covered);
  const distance = (name: Color) =>
    COLORS[name].reduce((sum, value, c) => sum + (value - color[c]!) * (value - color[c]!), 0);
  return COLOR_NAMES.reduce((best, name) => (distance(name) < distance(best) ? name : best));
}

const SHIFTS = [-0.7, 0, 0.7];
const SCALES = [0.92, 1, 1.08];

function bestShape(near: Region, mask: number[]): Omit<DetectedObject, 'color'> {
  let area = 0;
  let cx = 0;
  let cy = 0;
  near.forEach((i, k) => {
    area += mask[k]!;
    cx += mask[k]! * ((i % PICTURE_SIZE) + 0.5);
    cy += mask[k]! * (Math.floor(i / PICTURE_SIZE) + 0.5);
  });
  let best: Omit<DetectedObject, 'color'> = { shape: null, x: cx / area, y: cy / area, radius: 0, fit: 0 };
  for (const shape of SHAPES) {
    for (const scale of SCALES) {
      const radius = scale * Math.sqrt(area / GEOMETRY[shape].area);
      for (const dx of SHIFTS) {
        for (const dy of SHIFTS) {
          const x = cx / area + dx;
          const y = cy / area - GEOMETRY[shape].drop * radius + dy;
          const fit = overlap(near, mask, shape, x, y, radius);
          if (fit > best.fit) best = { shape, x, y, radius, fit };
        }
      }
    }
  }
  return best.fit >= LEAST_FIT ? best : { ...best, shape: null };
}

/**
 * Intersection over union of a soft mask and a shape; the part of the shape outside the mask's pixels counts
 * too.
 */
function overlap(near: Region, mask: number[], shape: Shape, x: number, y: number, radius: number): number {
  let both = 0;
  let masked = 0;
  near.forEach((i, k) => {
    const drawn = coverage(
      shape,
      radius,
      (i % PICTURE_SIZE) + 0.5 - x,
      Math.floor(i / PICTURE_SIZE) + 0.5 - y,
    );
    both += Math.min(mask[k]!, drawn);
    masked += mask[k]!;
  });
  return both / (masked + GEOMETRY[shape].area * radius * radius - both);
}
