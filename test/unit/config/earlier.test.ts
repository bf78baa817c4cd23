import { describe, expect, test } from 'vitest';
import { goingOn, parseStored } from '../../../src/config/earlier.js';
import { loadConfigWithSources } from '../../../src/config/load.js';
import { MINIMAL, yaml } from '../../support/config.js';

const stored = (ema: unknown) => parseStored({ name: 'x', data: { path: 'd' }, ema }, 'the manifest');

describe('a checkpoint of a version without ema.warmup', () => {
  test('was trained without warm-up; one with the key means what it says', () => {
    expect(stored({ decay: 0.9, every: 1 }).ema).toEqual({ decay: 0.9, every: 1, warmup: false });
    expect(stored({ decay: 0.9, every: 1, warmup: true }).ema?.warmup).toBe(true);
    expect(stored(null).ema).toBeNull();
  });

  const resumed = (text: string, flags: string[], before: unknown) => {
    const { config, sources } = loadConfigWithSources(yaml(`${MINIMAL}${text}`), flags, {});
    return goingOn(config, sources, stored(before)).ema;
  };

  test('goes on without, unless the user sets the key', () => {
    const before = { decay: 0.9, every: 1 };
    expect(resumed('', [], before)).toEqual({ decay: 0.999, every: 1, warmup: false });
    expect(resumed('ema: {warmup: true}\n', [], before)?.warmup).toBe(true);
    expect(resumed('', ['ema.warmup=true'], before)?.warmup).toBe(true);
    expect(resumed('ema: null\n', [], before)).toBeNull();
  });

  test('goes on without also from the checkpoints that this version writes', () => {
    expect(resumed('', [], { decay: 0.9, every: 1, warmup: false })?.warmup).toBe(false);
    expect(resumed('', [], { decay: 0.9, every: 1, warmup: true })?.warmup).toBe(true);
    expect(resumed('', [], null)?.warmup).toBe(true);
  });
});
