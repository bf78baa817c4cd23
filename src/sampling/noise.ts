import { drawWords, normalPair, STREAM, uniformOf } from '../random/philox.js';

/**
 * Initial noise of picture number `picture`: standard normal, a function of (seed, picture) alone, so that a picture
 * does not depend on the others of its batch.
 */
export function initialNoise(seed: bigint, picture: number, length: number): Float32Array {
  const noise = new Float32Array(length);
  const key = { seed, stream: STREAM.sampling, step: 0, sampleId: picture };
  for (let i = 0; i < length; i += 4) {
    const [a, b, c, d] = Array.from(drawWords(key, i / 4), uniformOf) as [number, number, number, number];
    const group = [...normalPair(a, b), ...normalPair(c, d)];
    noise.set(group.slice(0, Math.min(4, length - i)), i);
  }
  return noise;
}
