/** Whether two processors with the same instruction set compute alike: they do if their probes are equal. */
import { createHash } from 'node:crypto';
import type { EngineSpec } from '../native/contract.js';
import { native } from '../native/load.js';
import { drawUniforms, STREAM } from '../random/philox.js';

/** A model with every operation of the large ones, for which a few milliseconds suffice. */
const SMALL = { depth: 2, heads: 1, latentChannels: 4, contextDim: 32, pooledDim: 32, posEmbedMaxSize: 16 };
const SIDE = 8;
const TOKENS = 8;
const SAMPLES = 2;
const DIGITS = 16;

/**
 * The digest of one slot's loss and gradient, of a small model with fixed weights and inputs, in the arithmetic of a
 * run.
 *
 * @param spec That of the run's engine.
 */
export async function probeArithmetic(spec: EngineSpec): Promise<string> {
  const { backbone, patch, qkNorm, dualAttention } = spec.model;
  const model = { ...SMALL, backbone, patch, qkNorm, dualAttention: dualAttention.length === 0 ? [] : [0] };
  const side = SIDE * patch;
  const size = { latentHeight: side, latentWidth: side, contextTokens: TOKENS, microBatch: SAMPLES };
  const threads = { threads: 1, threadsPerSlot: 1 };
  const engine = await native().createEngine({
    ...spec,
    ...size,
    ...threads,
    model,
    device: null,
    ema: false,
  });
  try {
    let drawn = 0;
    const fill = (values: Float32Array) => uniforms(values, drawn++);
    await engine.initialize(0n);
    // At initialisation the gradient of most parameters is zero.
    for (const { name } of engine.layout().tensors) fill(await engine.state('master', name));
    await engine.parametersChanged();
    const latents = () => fill(new Float32Array(SAMPLES * model.latentChannels * side * side));
    const batch = {
      z: latents(),
      timestep: Float32Array.from({ length: SAMPLES }, (_, i) => (1000 * (i + 0.5)) / SAMPLES),
      context: fill(new Float32Array(SAMPLES * TOKENS * model.contextDim)),
      pooled: fill(new Float32Array(SAMPLES * model.pooledDim)),
    };
    const { velocity, gradients } = await engine.evaluateCase(batch, latents(), true);
    const hash = createHash('sha256').update(velocity);
    for (const { name } of engine.layout().tensors) hash.update(gradients.get(name)!);
    return hash.digest('hex').slice(0, DIGITS);
  } finally {
    await engine.close();
  }
}

/** Fills an array with numbers from -1/2 to 1/2, a function of `index` alone. */
function uniforms(values: Float32Array, index: number): Float32Array {
  const key = { seed: 0n, stream: STREAM.sampling, step: 0, sampleId: index };
  for (let i = 0; i < values.length; i += 4) {
    const drawn = drawUniforms(key, i / 4);
    for (let j = 0; j < 4 && i + j < values.length; j++) values[i + j] = drawn[j]! - 0.5;
  }
  return values;
}
