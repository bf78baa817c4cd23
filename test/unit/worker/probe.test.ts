import { expect, test } from 'vitest';
import { probeArithmetic } from '../../../src/worker/probe.js';
import { engineSpec, SMALL } from '../../support/engines.js';

test('the probe depends on the arithmetic alone', async () => {
  const probe = await probeArithmetic(engineSpec());
  expect(probe).toMatch(/^[0-9a-f]{16}$/);
  const larger = { model: { ...SMALL, depth: SMALL.depth + 1, heads: 2 }, threads: 2, microBatch: 3 };
  expect(await probeArithmetic(engineSpec(larger))).toBe(probe);
  expect(await probeArithmetic(engineSpec({ precision: 'bf16', residual: 'bf16' }))).not.toBe(probe);
});
