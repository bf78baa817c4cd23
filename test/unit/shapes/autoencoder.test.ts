import { describe, expect, test } from 'vitest';
import {
  decodeLatent,
  encodePicture,
  LATENT_GAIN,
  LATENT_MEAN,
  LATENT_STD,
} from '../../../src/shapes/autoencoder.js';
import { Draws, PURPOSE } from '../../../src/shapes/draws.js';
import { render } from '../../../src/shapes/render.js';
import { drawScene } from '../../../src/shapes/scene.js';

const PICTURES = Array.from({ length: 2000 }, (_, id) => render(drawScene(new Draws(0n, PURPOSE.scene, id))));

describe('encodePicture', () => {
  test('standardises: each channel has mean 0 and its stated deviation over the world', () => {
    const sums = new Float64Array(16);
    const squares = new Float64Array(16);
    for (const pixels of PICTURES) {
      encodePicture(pixels).forEach((value, i) => {
        sums[Math.floor(i / 64)]! += value;
        squares[Math.floor(i / 64)]! += value * value;
      });
    }
    const n = PICTURES.length * 64;
    for (let c = 0; c < 16; c++) {
      const mean = sums[c]! / n;
      expect(Math.abs(mean)).toBeLessThan(0.06);
      expect(Math.abs(Math.sqrt(squares[c]! / n - mean ** 2) / LATENT_GAIN[c]! - 1)).toBeLessThan(0.04);
    }
  });

  test('computes the orthonormal DCT-II: against the definition', () => {
    const draws = new Draws(4n, 99, 0);
    const pixels = Uint8Array.from({ length: 64 * 64 * 3 }, () => Math.floor(256 * draws.uniform()));
    const latent = encodePicture(pixels);
    const [bx, by, channel, u, v] = [3, 5, 7, 2, 1];
    let sum = 0;
    for (let y = 0; y < 8; y++) {
      for (let x = 0; x < 8; x++) {
        const at = ((by * 8 + y) * 64 + bx * 8 + x) * 3;
        const luma = (0.299 * pixels[at]! + 0.587 * pixels[at + 1]! + 0.114 * pixels[at + 2]!) / 255 - 0.5;
        const basis = Math.cos(((2 * x + 1) * u * Math.PI) / 16) * Math.cos(((2 * y + 1) * v * Math.PI) / 16);
        sum += 0.25 * luma * basis;
      }
    }
    const standard = (sum - LATENT_MEAN[channel]!) / LATENT_STD[channel]!;
    expect(latent[channel * 64 + by * 8 + bx]).toBeCloseTo(standard * LATENT_GAIN[channel]!, 4);
  });
});

describe('decodeLatent', () => {
  test('gives pictures back with an error of about 4 % of the range', () => {
    let squared = 0;
    let worst = 0;
    for (const pixels of PICTURES.slice(0, 300)) {
      const decoded = decodeLatent(encodePicture(pixels));
      const error = pixels.reduce((sum, value, i) => sum + (value - decoded[i]!) ** 2, 0) / pixels.length;
      squared += error / 300;
      worst = Math.max(worst, error);
    }
    expect(Math.sqrt(squared) / 255).toBeLessThan(0.05);
    expect(Math.sqrt(worst) / 255).toBeLessThan(0.1);
  });

  test('is exact for flat pictures, and reads at an offset', () => {
    const flat = Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => [40, 180, 220][i % 3]!);
    const latents = new Float32Array(2048);
    latents.set(encodePicture(flat), 1024);
    expect(decodeLatent(latents, 1024)).toEqual(flat);
  });

  test('clamps to bytes', () => {
    const bright = decodeLatent(new Float32Array(1024).fill(50));
    const broken = decodeLatent(new Float32Array(1024).fill(Number.NaN));
    expect(bright.every((value) => value >= 0 && value <= 255)).toBe(true);
    expect(broken.every((value) => value === 0)).toBe(true);
  });
});
