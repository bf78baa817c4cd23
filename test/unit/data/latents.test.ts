import { describe, expect, test } from 'vitest';
import { judgesScaling, scalingAdvice } from '../../../src/data/latents.js';

const none = { latentShift: 0, latentScale: 1 };

describe('the advice on scaling', () => {
  test('is none where latents are as expected, as stored or by the configuration', () => {
    for (const std of [0.8, 1, 1.3]) expect(scalingAdvice({ mean: 0.1, std }, 16, none)).toBeNull();
    const configured = { latentShift: 0.0609, latentScale: 1.5305 };
    expect(scalingAdvice({ mean: 0.06, std: 0.65 }, 16, configured)).toBeNull();
    expect(scalingAdvice({ mean: Number.NaN, std: Number.NaN }, 16, none)).toBeNull();
  });

  test.each([
    ["SD3's", 16, 0.06, 0.65, 0.0609, 1.5305],
    ["FLUX.1's", 16, 0.1, 2.8, 0.1159, 0.3611],
    ["SDXL's", 4, 0.2, 7.5, 0, 0.13025],
    ["SD 1's and 2's", 4, 0.1, 4.5, 0, 0.18215],
  ])('names %s autoencoder', (name, channels, mean, std, shift, scale) => {
    const advice = scalingAdvice({ mean, std }, channels, none);
    expect(advice).toContain(`set data.latent_shift to ${shift} and data.latent_scale to ${scale} (${name}`);
    expect(scalingAdvice({ mean, std }, channels, { latentShift: shift, latentScale: scale })).toBeNull();
  });

  test('comes from the statistics where no autoencoder fits', () => {
    const advice = scalingAdvice({ mean: 0.5, std: 6.5 }, 16, none)!;
    expect(advice).toContain('mean 0.50 and the standard deviation 6.5, where about 0 and 1 are expected');
    expect(advice).toContain(
      'data.latent_shift to 0.5 and data.latent_scale to 0.154 (from their statistics)',
    );
  });

  test('is for sets that do not name their encoders, and for all that the configuration scales', () => {
    const encoders = { clip_l: 'L', clip_g: 'G', t5: 'T5' };
    expect(judgesScaling(null, none)).toBe(true);
    expect(judgesScaling(encoders, none)).toBe(false);
    expect(judgesScaling(encoders, { ...none, latentScale: 1.5305 })).toBe(true);
    expect(judgesScaling(encoders, { ...none, latentShift: 0.0609 })).toBe(true);
  });

  test('takes back a scaling of latents that are scaled already', () => {
    const twice = { latentShift: 0.0609, latentScale: 1.5305 };
    expect(scalingAdvice({ mean: 0, std: 1 }, 16, twice)).toContain(
      'set data.latent_shift to 0 and data.latent_scale to 1 (they are scaled as they are stored)',
    );
  });
});
