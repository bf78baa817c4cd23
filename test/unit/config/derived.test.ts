import { describe, expect, test } from 'vitest';
import {
  describeBatch,
  isAttentionLogged,
  isLogged,
  validationEvery,
  wantedExchange,
} from '../../../src/config/derived.js';
import { loadConfig } from '../../../src/config/load.js';
import { MINIMAL, yaml } from '../../support/config.js';

describe('the exchange that is wanted', () => {
  test.each([
    ['cpu', 'auto', 'shared'],
    ['cpu', 'shared', 'shared'],
    ['cpu', 'grpc', 'grpc'],
    ['cuda', 'auto', 'nccl'],
    ['cuda', 'nccl', 'nccl'],
    ['cuda', 'grpc', 'grpc'],
  ] as const)(
    'device %s and exchange %s: %s; a lone worker has nobody to exchange with',
    (device, exchange, wanted) => {
      expect(wantedExchange({ device, exchange }, 2)).toBe(wanted);
      expect(wantedExchange({ device, exchange }, 1)).toBe('none');
    },
  );
});

test.each([
  [{ global: 64, micro: 32, accumulate: 1 }, '64 samples = 2 slots x 32'],
  [{ global: 64, micro: 8, accumulate: 8 }, '64 samples = 1 slot x 8 micro-batches x 8'],
])('a batch %o is %s', (batch, text) => {
  expect(describeBatch({ batch })).toBe(text);
});

test.each([
  [0, 10, 0],
  [8, 10, 10],
  [8, 0, 0],
])('%i held-out rows and validation.every %i: a validation every %i steps', (rows, every, expected) => {
  const flags = [`data.validation_rows=${rows}`, `validation.every=${every}`];
  expect(validationEvery(loadConfig(yaml(MINIMAL), flags))).toBe(expected);
});

test('which steps have a line in the logs: all of short runs, a bounded number of long ones', () => {
  const logged = (steps: number, logEvery: number | null, firstStep = 1) => {
    const config = loadConfig(yaml(MINIMAL), [`schedule.steps=${steps}`, `telemetry.log_every=${logEvery}`]);
    const all = Array.from({ length: steps - firstStep + 1 }, (_, i) => firstStep + i);
    return all.filter((step) => isLogged(config, step, firstStep));
  };
  expect(logged(10_000, null)).toHaveLength(10_000);
  const long = logged(500_000, null);
  expect(long.length).toBeLessThan(10_200);
  expect(long.slice(98, 103)).toEqual([99, 100, 150, 200, 250]);
  expect(logged(95, 10)).toEqual([1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95]);
  expect(logged(95, 10, 42)).toEqual([42, 50, 60, 70, 80, 90, 95]);
});

test('which sampled steps have every attention: one for each logged step, whatever the intervals are', () => {
  const recorded = (steps: number, logEvery: number | null, sampleEvery: number) => {
    const config = loadConfig(yaml(MINIMAL), [
      `schedule.steps=${steps}`,
      `telemetry.log_every=${logEvery}`,
      `telemetry.attention_every=${sampleEvery}`,
    ]);
    const sampled = Array.from({ length: Math.floor(steps / sampleEvery) }, (_, i) => (i + 1) * sampleEvery);
    return sampled.filter((step) => isAttentionLogged(config, step, 1));
  };
  expect(recorded(10_000, null, 10)).toHaveLength(1_000);
  for (const [steps, sampleEvery] of [
    [500_000, 10],
    [500_000, 7],
    [5_000_000, 1],
  ] as const)
    expect(recorded(steps, null, sampleEvery).length).toBeLessThan(10_200);
  expect(recorded(60, 7, 10)).toEqual([10, 20, 30, 40, 50, 60]);
  expect(recorded(100, 35, 10)).toEqual([10, 40, 70, 100]);
});
