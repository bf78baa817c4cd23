/** The initial noise of sampling. */
import { elementary } from '../native/elementary.js';
import { drawUniforms, STREAM } from '../random/philox.js';

/**
 * Initial noise of picture number `picture`: standard normal, a function of (seed, picture) alone, so that a
 * picture does not depend on the rest of its batch.
 */
export function initialNoise(seed: bigint, picture: number, length: number): Float32Array {
  const draws = new Float64Array(4 * Math.ceil(length / 4));
  const key = { seed, stream: STREAM.sampling, step: 0, sampleId: picture };
  for (let i = 0; i < length; i += 4) draws.set(drawUniforms(key, i / 4), i);
  elementary().normalPairs(draws);
  return Float32Array.from(draws.subarray(0, length));
}
