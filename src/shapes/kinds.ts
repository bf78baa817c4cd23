/** The kinds of data sets of the shapes world: what their pictures show, and how they are captioned. */
import { type Captions, caption } from './captions.js';
import { Draws, PURPOSE } from './draws.js';
import { drawScene, type Scene } from './scene.js';

interface DrawnPicture {
  scene: Scene;
  captions: Captions;
}

/**
 * scenes: one to three objects, with a terse and a complete caption. photos: one object in the centre, with both
 * captions "a photo of a red circle", as the SD3 paper captions the classes of ImageNet (appendix B.3).
 */
const KINDS = {
  scenes: (draws: Draws): DrawnPicture => {
    const scene = drawScene(draws);
    return { scene, captions: caption(scene, draws) };
  },
  photos: (draws: Draws): DrawnPicture => {
    let scene = drawScene(draws, 'single');
    while (!scene.usual) scene = drawScene(draws, 'single');
    const { shape, color } = scene.objects[0]!;
    const text = `a photo of ${color === 'orange' ? 'an' : 'a'} ${color} ${shape}`;
    const stated = { objects: [{ shape, color, place: null }], relation: null };
    return { scene, captions: { original: text, synthetic: text, stated } };
  },
};

export type PictureKind = keyof typeof KINDS;
export const PICTURE_KINDS = Object.keys(KINDS) as PictureKind[];

/** Picture `id` of a seed: row `id` of every data set of this kind and seed. */
export function drawPicture(kind: PictureKind, seed: bigint, id: number): DrawnPicture {
  return KINDS[kind](new Draws(seed, PURPOSE.scene, id));
}
