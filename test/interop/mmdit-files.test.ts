/** The tensors of weights that the original SD3.5 implementation wrote. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Safetensors } from '../../src/formats/safetensors/file.js';
import { Weights } from '../../src/model/weights.js';
import { posEmbed } from '../support/pos-embed.js';

const FIXTURES = new URL('../fixtures/mmdit/', import.meta.url).pathname;
const CASES = JSON.parse(readFileSync(`${FIXTURES}manifest.json`, 'utf8'));

describe.each(Object.keys(CASES))('%s', (name) => {
  const path = `${FIXTURES}${name}.weights.safetensors`;
  const wanted = CASES[name];

  test('has the model of its manifest', async () => {
    const file = await Safetensors.open(path);
    expect(new Weights(file).spec).toEqual({
      backbone: 'mmdit',
      depth: wanted.depth,
      heads: wanted.heads,
      patch: 2,
      latentChannels: wanted.latent[0],
      contextDim: wanted.context_dim,
      pooledDim: wanted.pooled_dim,
      posEmbedMaxSize: wanted.pos_embed_max_size,
      qkNorm: wanted.qk_norm ? 'rms' : 'none',
      dualAttention: wanted.dual_attention_layers,
    });
    await file.close();
  });

  test('stores the position table that posEmbed computes', async () => {
    const file = await Safetensors.open(path);
    const stored = await file.read('model.diffusion_model.pos_embed');
    const computed = posEmbed(new Weights(file).spec);
    expect(computed.length).toBe(stored.length);
    let worst = 0;
    for (let i = 0; i < stored.length; i++) worst = Math.max(worst, Math.abs(stored[i]! - computed[i]!));
    // One unit in the last place of fp32 at 1.
    expect(worst).toBeLessThanOrEqual(6e-8);
    await file.close();
  });
});
