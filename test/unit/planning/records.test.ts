import { expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/load.js';
import { recordBytes } from '../../../src/planning/records.js';
import { MINIMAL, yaml } from '../../support/config.js';

const bytes = (steps: number) => {
  const model = ['model.depth=24', 'model.hidden=1536'];
  return recordBytes(loadConfig(yaml(MINIMAL), [...model, `schedule.steps=${steps}`]), 8);
};

test('the records of half a million steps, and that only their short lines grow with the steps', () => {
  expect(bytes(500_000) / 1e6).toBeGreaterThan(250);
  expect(bytes(500_000) / 1e6).toBeLessThan(330);
  // The detailed records are as many, within those of the first steps.
  expect((bytes(1_000_000) - bytes(500_000)) / 500_000).toBeCloseTo(376, -1);
});
