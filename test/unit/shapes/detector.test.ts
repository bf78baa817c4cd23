import { describe, expect, test } from 'vitest';
import { decodeLatent, encodePicture } from '../../../src/shapes/autoencoder.js';
import { Draws, PURPOSE } from '../../../src/shapes/draws.js';
import { detect } from '../../../src/shapes/evaluation/detector.js';
import { render } from '../../../src/shapes/render.js';
import { drawScene, type Scene } from '../../../src/shapes/scene.js';
import { FULL } from '../../support/full.js';

const SCENES = Array.from({ length: FULL ? 400 : 100 }, (_, i) =>
  drawScene(new Draws(11n, PURPOSE.scene, i)),
);

/** Scenes whose picture is not described exactly: number, shapes, colours, centres within a tolerance. */
function misread(picture: (scene: Scene) => Uint8Array, tolerance: number): Scene[] {
  return SCENES.filter((scene) => {
    const found = detect(picture(scene));
    const right = scene.objects.every((wanted) =>
      found.some(
        (o) =>
          o.shape === wanted.shape &&
          o.color === wanted.color &&
          Math.abs(o.x - wanted.x) <= tolerance &&
          Math.abs(o.y - wanted.y) <= tolerance,
      ),
    );
    return !right || found.length !== scene.objects.length;
  });
}

describe('detect', () => {
  test('describes every rendered scene exactly', () => {
    expect(misread(render, 0.3)).toEqual([]);
  });

  test('describes every scene exactly after the autoencoder', () => {
    expect(misread((scene) => decodeLatent(encodePicture(render(scene))), 1)).toEqual([]);
  });

  test('withstands noise in the latent', () => {
    const noisy = (scene: Scene) => {
      const latent = encodePicture(render(scene));
      const draws = new Draws(3n, 99, Math.round(scene.objects[0]!.x * 1000));
      return decodeLatent(latent.map((value) => value + 0.1 * draws.normal()));
    };
    expect(misread(noisy, 1).length / SCENES.length).toBeLessThan(0.02);
  });

  test('finds nothing in an empty picture, and no shape in a bar', () => {
    const empty = new Uint8Array(64 * 64 * 3).fill(200);
    expect(detect(empty)).toEqual([]);
    const bar = Uint8Array.from(empty);
    for (let y = 30; y < 34; y++) bar.fill(0, (y * 64 + 8) * 3, (y * 64 + 56) * 3);
    expect(detect(bar)).toMatchObject([{ shape: null }]);
  });

  test('leaves random pictures without a single object that is asked for', () => {
    const draws = new Draws(1n, 99, 0);
    const noise = Uint8Array.from({ length: 64 * 64 * 3 }, () => Math.floor(256 * draws.uniform()));
    expect(detect(noise).filter(({ shape }) => shape !== null)).toEqual([]);
  });
});
