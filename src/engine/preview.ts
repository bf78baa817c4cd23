/** Latents in false colours, to look at without their autoencoder. */
import { elementary } from '../native/elementary.js';

/** Deviations of a latent between mid-grey and black or white. */
const REACH = 3;

/**
 * A fixed linear map of a latent [channels, height, width], whose channels have a deviation of about 1, to
 * [height, width, 3] bytes. Luma is the sum of the channels over sqrt(C), Cb and Cr are their first cosine
 * and sine over the channels, each of unit length: orthonormal directions, so the colours have about the
 * deviation of the latents, whichever channels carry the picture. (YCbCr of BT.601.) With fewer than three
 * channels there is only luma. The map knows no autoencoder: it shows layout and noise, not true colours.
 *
 * @param offset the index of the latent's first element.
 */
export function falseColours(
  latents: Float32Array,
  [channels, height, width]: readonly [number, number, number],
  offset = 0,
): Uint8Array {
  const area = height * width;
  const planes = directions(channels).map((weights) => {
    const plane = new Float64Array(area);
    weights.forEach((weight, c) => {
      const first = offset + c * area;
      for (let i = 0; i < area; i++) plane[i]! += weight * latents[first + i]!;
    });
    return plane;
  });
  const pixels = new Uint8Array(3 * area);
  for (let i = 0; i < area; i++) {
    const [y, cb, cr] = planes.map((plane) => plane[i]! / (2 * REACH)) as [number, number, number];
    pixels[3 * i] = toByte(y + 1.402 * cr);
    pixels[3 * i + 1] = toByte(y - 0.344136 * cb - 0.714136 * cr);
    pixels[3 * i + 2] = toByte(y + 1.772 * cb);
  }
  return pixels;
}

/** The weights of the channels in luma, Cb and Cr. */
function directions(channels: number): [number[], number[], number[]] {
  const wave = (of: (angle: number) => number) =>
    Array.from({ length: channels }, (_, c) =>
      channels < 3 ? 0 : Math.sqrt(2 / channels) * of((2 * Math.PI * c) / channels),
    );
  const luma = Array.from({ length: channels }, () => 1 / Math.sqrt(channels));
  const { cos, sin } = elementary();
  return [luma, wave(cos), wave(sin)];
}

/** 0 to 255 for -0.5 to 0.5; NaN becomes 0. */
function toByte(value: number): number {
  const level = Math.round(255 * (value + 0.5));
  return level > 0 ? Math.min(255, level) : 0;
}
