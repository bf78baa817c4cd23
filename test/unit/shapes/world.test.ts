import { describe, expect, test } from 'vitest';
import { caption } from '../../../src/shapes/captions.js';
import { Draws, PURPOSE } from '../../../src/shapes/draws.js';
import { coverage, render } from '../../../src/shapes/render.js';
import { drawScene, KIND_SHARES, type Scene } from '../../../src/shapes/scene.js';
import { phrases } from '../../../src/shapes/tokenizer.js';
import {
  BACKGROUNDS,
  COLORS,
  LEAST_CONTRAST,
  luma,
  placeOf,
  relates,
} from '../../../src/shapes/vocabulary.js';

const COUNT = 1500;

function picture(seed: bigint, id: number) {
  const draws = new Draws(seed, PURPOSE.scene, id);
  const scene = drawScene(draws);
  return { scene, captions: caption(scene, draws) };
}

const PICTURES = Array.from({ length: COUNT }, (_, id) => picture(0n, id));

describe('drawScene', () => {
  test('is a function of seed and number', () => {
    expect(picture(0n, 7)).toEqual(PICTURES[7]);
    expect(picture(1n, 7)).not.toEqual(PICTURES[7]);
  });

  test('keeps objects apart, inside the picture and visible', () => {
    for (const { scene } of PICTURES) {
      scene.objects.forEach((a, i) => {
        for (const center of [a.x, a.y]) {
          expect(center - a.radius).toBeGreaterThanOrEqual(1);
          expect(center + a.radius).toBeLessThanOrEqual(63);
        }
        const contrast = Math.abs(luma(COLORS[a.color]) - luma(BACKGROUNDS[scene.background]));
        expect(contrast).toBeGreaterThanOrEqual(LEAST_CONTRAST);
        for (const b of scene.objects.slice(i + 1)) {
          const gap = Math.max(Math.abs(a.x - b.x), Math.abs(a.y - b.y)) - a.radius - b.radius;
          expect(gap).toBeGreaterThanOrEqual(3 - 1e-9);
        }
      });
    }
  });

  test('has the stated shares of kinds, within four standard deviations', () => {
    for (const [kind, share] of Object.entries(KIND_SHARES)) {
      const seen = PICTURES.filter(({ scene }) => scene.kind === kind).length / COUNT;
      expect(Math.abs(seen - share)).toBeLessThan(4 * Math.sqrt((share * (1 - share)) / COUNT));
    }
  });
});

describe('caption', () => {
  test('says in full what the picture shows', () => {
    for (const { scene, captions } of PICTURES) {
      const { background, objects, relation, kind } = scene;
      expect(captions.synthetic).toContain(`on a ${background} background`);
      for (const o of objects) {
        if (kind === 'count') continue;
        expect(captions.synthetic).toContain(`a ${o.size} ${o.color} ${o.shape}`);
        const placed = `${o.color} ${o.shape} at the ${placeOf(o.x, o.y)}`;
        if (relation === null) expect(captions.synthetic).toContain(placed);
      }
      if (relation !== null) expect(relates(relation, objects[0]!, objects[1]!, 12)).toBe(true);
    }
  });

  test('leaves out of the original what is as usual, and no more', () => {
    for (const { scene, captions } of PICTURES) {
      expect(captions.original.includes(' at the ')).toBe(!scene.usual);
      expect(/ on (navy|gray|white)$/.test(captions.original)).toBe(scene.background !== 'black');
      if (scene.kind === 'single')
        expect(scene.usual).toBe(placeOf(scene.objects[0]!.x, scene.objects[0]!.y) === 'center');
    }
  });

  test('can be read by the encoders: one phrase for each object and one for the background', () => {
    for (const { scene, captions } of PICTURES) {
      const objects = scene.kind === 'count' ? 1 : scene.objects.length;
      expect(phrases(captions.synthetic)).toHaveLength(objects + 1);
      expect(phrases(captions.original)).toHaveLength(scene.background === 'black' ? objects : objects + 1);
    }
  });

  test('reads as intended', () => {
    const scene: Scene = {
      kind: 'count',
      background: 'navy',
      usual: true,
      objects: [13, 32, 51].map((x) => ({
        shape: 'cross',
        color: 'red',
        size: 'small',
        x,
        y: 32,
        radius: 8,
      })),
      relation: null,
    };
    const { original, synthetic } = caption(scene, new Draws(0n, PURPOSE.scene, 0));
    expect(['three red crosses on navy', 'three crosses on navy']).toContain(original);
    expect(synthetic).toBe('three small red crosses on a navy background');
  });
});

describe('render', () => {
  test.each([
    ['circle', Math.PI],
    ['square', 1.8 ** 2],
    ['triangle', 2],
    ['cross', 8 * 0.34 - 4 * 0.34 ** 2],
  ] as const)('covers the area of a %s', (shape, area) => {
    for (const radius of [6.5, 9.3, 13]) {
      let covered = 0;
      for (let y = 0; y < 64; y++) {
        for (let x = 0; x < 64; x++) covered += coverage(shape, radius, x + 0.5 - 31.7, y + 0.5 - 32.2);
      }
      expect(covered / (area * radius ** 2)).toBeGreaterThan(0.98);
      expect(covered / (area * radius ** 2)).toBeLessThan(1.02);
    }
  });

  test('draws objects in their colour on the background, with mixed pixels only at the edges', () => {
    const scene: Scene = {
      kind: 'single',
      background: 'black',
      usual: true,
      objects: [{ shape: 'circle', color: 'yellow', size: 'large', x: 20, y: 40, radius: 12 }],
      relation: null,
    };
    const pixels = render(scene);
    const at = (x: number, y: number) => [...pixels.subarray((y * 64 + x) * 3, (y * 64 + x) * 3 + 3)];
    expect(at(20, 40)).toEqual([...COLORS.yellow]);
    expect(at(50, 10)).toEqual([...BACKGROUNDS.black]);
    let mixed = 0;
    for (let y = 0; y < 64; y++) {
      for (let x = 0; x < 64; x++) {
        const [r] = at(x, y) as [number];
        if (r === COLORS.yellow[0] || r === BACKGROUNDS.black[0]) continue;
        mixed++;
        expect(Math.abs(Math.hypot(x + 0.5 - 20, y + 0.5 - 40) - 12)).toBeLessThan(0.5);
      }
    }
    expect(mixed).toBeGreaterThan(40);
  });
});
