import { describe, expect, test } from 'vitest';
import { decodeLatent, encodePicture } from '../../../src/shapes/autoencoder.js';
import { detect } from '../../../src/shapes/evaluation/detector.js';
import { shows } from '../../../src/shapes/evaluation/judge.js';
import { generatorOf } from '../../../src/shapes/generate.js';
import { drawPicture, PICTURE_KINDS, type PictureKind } from '../../../src/shapes/kinds.js';
import { render } from '../../../src/shapes/render.js';
import { phrases } from '../../../src/shapes/tokenizer.js';

const COUNT = 60;
const drawn = (kind: PictureKind) => Array.from({ length: COUNT }, (_, id) => drawPicture(kind, 0n, id));

describe.each(PICTURE_KINDS)('%s', (kind) => {
  const pictures = drawn(kind);

  test('real pictures show what their captions state, those of other captions seldom do', () => {
    const found = pictures.map(({ scene }) => detect(decodeLatent(encodePicture(render(scene)))));
    const wrong = pictures.filter(({ captions }, i) => !shows(found[i]!, captions.stated));
    expect(wrong.map(({ captions }) => captions.original)).toEqual([]);
    const shifted = pictures.filter(({ captions }, i) => shows(found[(i + 1) % COUNT]!, captions.stated));
    expect(shifted.length / COUNT).toBeLessThan(0.3);
  });

  test('captions are of known words, and name what is stated', () => {
    for (const { captions } of pictures) {
      const { original, stated } = captions;
      expect(phrases(original).length).toBeGreaterThan(0);
      for (const { shape, color, place } of stated.objects) {
        expect(original).toContain(shape);
        if (color !== null) expect(original).toContain(color);
        if (place !== null) expect(original).toContain(`at the ${place}`);
      }
      if (stated.relation !== null) expect(original).toContain(` ${stated.relation} `);
    }
  });
});

test('photos show one object in the centre, and both captions are "a photo of a red circle"', () => {
  for (const { scene, captions } of drawn('photos')) {
    const [{ shape, color }, ...others] = scene.objects as [(typeof scene.objects)[number]];
    expect(others).toEqual([]);
    expect(scene.usual).toBe(true);
    expect(captions.original).toMatch(new RegExp(`^a photo of an? ${color} ${shape}$`));
    expect(captions.synthetic).toBe(captions.original);
    expect(phrases(captions.original)).toEqual([[color, shape]]);
  }
});

test('objects are found in any order, and each only once', () => {
  const object = (shape: 'circle' | 'square', x: number, y: number) =>
    ({ shape, color: 'red', x, y, radius: 8, fit: 0.9 }) as const;
  const circle = { shape: 'circle', color: 'red', place: null } as const;
  const [left, right] = [object('circle', 12, 32), object('circle', 52, 32)];
  expect(shows([left, right], { objects: [circle, circle], relation: 'right of' })).toBe(true);
  expect(shows([left], { objects: [circle, circle], relation: null })).toBe(false);
  expect(shows([left, right], { objects: [circle], relation: null })).toBe(false);
  const atLeft = { ...circle, place: 'middle left' } as const;
  expect(shows([right, left], { objects: [circle, atLeft], relation: null })).toBe(true);
  expect(shows([right, left], { objects: [atLeft, atLeft], relation: null })).toBe(false);
  expect(shows([left, object('square', 52, 32)], { objects: [circle, circle], relation: null })).toBe(false);
});

test('a manifest tells the kind and the seed; those of earlier versions are of scenes', () => {
  const of = (generator: Record<string, unknown>) => generatorOf({ generator } as never);
  expect(of({ name: 'shapes', version: 1, seed: '7' })).toEqual({ kind: 'scenes', seed: 7n });
  expect(of({ name: 'shapes', version: 1, seed: '7', pictures: 'photos' })).toEqual({
    kind: 'photos',
    seed: 7n,
  });
  expect(of({ name: 'shapes', version: 1, seed: '7', pictures: 'paintings' })).toBeNull();
  expect(of({ converted: 'parquet' })).toBeNull();
});
