/** Renders a scene as pixels. */
import type { Scene, SceneObject } from './scene.js';
import { BACKGROUNDS, COLORS, PICTURE_SIZE, type Shape } from './vocabulary.js';

const SIDE = PICTURE_SIZE;

/**
 * Draws a scene with anti-aliasing: a pixel's coverage is 0.5 minus the signed distance of its centre from
 * the outline, clamped to [0, 1]. Returns [64, 64, 3] bytes, row by row, sRGB.
 */
export function render(scene: Scene): Uint8Array {
  const pixels = new Uint8Array(SIDE * SIDE * 3);
  const [r, g, b] = BACKGROUNDS[scene.background];
  for (let i = 0; i < pixels.length; i += 3) {
    pixels[i] = r;
    pixels[i + 1] = g;
    pixels[i + 2] = b;
  }
  for (const object of scene.objects) draw(pixels, object);
  return pixels;
}

function draw(pixels: Uint8Array, object: SceneObject): void {
  const color = COLORS[object.color];
  const reach = object.radius + 1;
  const top = Math.max(0, Math.floor(object.y - reach));
  const bottom = Math.min(SIDE - 1, Math.ceil(object.y + reach));
  const left = Math.max(0, Math.floor(object.x - reach));
  const right = Math.min(SIDE - 1, Math.ceil(object.x + reach));
  for (let row = top; row <= bottom; row++) {
    for (let column = left; column <= right; column++) {
      const alpha = coverage(object.shape, object.radius, column + 0.5 - object.x, row + 0.5 - object.y);
      if (alpha <= 0) continue;
      const at = (row * SIDE + column) * 3;
      for (let c = 0; c < 3; c++) {
        pixels[at + c] = Math.round(pixels[at + c]! * (1 - alpha) + color[c]! * alpha);
      }
    }
  }
}

/**
 * Fraction of a pixel at offset (dx, dy) from the centre that a shape of this radius covers. y points down.
 */
export function coverage(shape: Shape, radius: number, dx: number, dy: number): number {
  return Math.min(Math.max(0.5 - GEOMETRY[shape].distance(radius, dx, dy), 0), 1);
}

interface Geometry {
  /** Distance from the outline, negative inside; exact near the edges, a lower bound beyond corners. */
  distance(radius: number, dx: number, dy: number): number;
  /** Area at radius 1. */
  area: number;
  /** Distance of the centroid below the centre of the bounding box at radius 1. */
  drop: number;
}

/** Half the side of a square, smaller than its circle's box: shapes of one size shall look equally large. */
const SQUARE = 0.9;
/** Half the width of a cross's arms. */
const ARM = 0.34;

/** One entry for each shape. */
export const GEOMETRY: Record<Shape, Geometry> = {
  circle: { distance: (radius, dx, dy) => Math.sqrt(dx * dx + dy * dy) - radius, area: Math.PI, drop: 0 },
  square: {
    distance: (radius, dx, dy) => Math.max(Math.abs(dx), Math.abs(dy)) - SQUARE * radius,
    area: 4 * SQUARE * SQUARE,
    drop: 0,
  },
  triangle: {
    // The apex is at the top, and the triangle is as wide as high: the sides fall 2 for 1.
    distance: (radius, dx, dy) => Math.max((2 * Math.abs(dx) - (dy + radius)) / Math.sqrt(5), dy - radius),
    area: 2,
    drop: 1 / 3,
  },
  cross: {
    distance: (radius, dx, dy) =>
      Math.min(
        Math.max(Math.abs(dx) - ARM * radius, Math.abs(dy) - radius),
        Math.max(Math.abs(dx) - radius, Math.abs(dy) - ARM * radius),
      ),
    area: 8 * ARM - 4 * ARM * ARM,
    drop: 0,
  },
};
