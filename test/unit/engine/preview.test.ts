import { describe, expect, test } from 'vitest';
import { falseColours } from '../../../src/engine/preview.js';

describe('falseColours', () => {
  test('maps a latent of zeros to mid-grey, and its size to that of the picture', () => {
    expect([...falseColours(new Float32Array(16 * 2 * 3), [16, 2, 3])]).toEqual(new Array(18).fill(128));
  });

  test.each([1, 2, 4, 16])('shows more of all of %i channels as lighter grey', (channels) => {
    const latent = Float32Array.from({ length: 2 * channels }, (_, i) => (i % 2 === 0 ? -1 : 1));
    const [r, g, b, ...lighter] = falseColours(latent, [channels, 1, 2]);
    expect([g, b]).toEqual([r, r]);
    expect(r).toBeLessThan(127);
    expect(lighter[0]).toBe(255 - r!);
  });

  test('tells every two of 16 channels apart', () => {
    const colours = Array.from({ length: 16 }, (_, c) =>
      falseColours(
        Float32Array.from({ length: 16 }, (_, i) => (i === c ? 2 : 0)),
        [16, 1, 1],
      ).join(),
    );
    expect(new Set(colours).size).toBe(16);
  });

  test('begins at an offset, and keeps values within the bytes', () => {
    const latents = Float32Array.of(0, 0, 1e6, -1e6);
    expect([...falseColours(latents, [1, 1, 2], 2)]).toEqual([255, 255, 255, 0, 0, 0]);
    expect([...falseColours(Float32Array.of(Number.NaN), [1, 1, 1])]).toEqual([0, 0, 0]);
  });
});
