import { expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/load.js';
import { recordBytes } from '../../../src/planning/records.js';
import { MINIMAL, yaml } from '../../support/config.js';

const bytes = (steps: number, ...sets: string[]) => {
  const model = ['model.depth=24', 'model.hidden=1536'];
  return recordBytes(loadConfig(yaml(MINIMAL), [...model, `schedule.steps=${steps}`, ...sets]), 8);
};

test('the records of half a million steps, and that only their short lines grow with the steps', () => {
  // The sum of the table in docs/guide/training.md, and that without TensorBoard's event files.
  expect(bytes(500_000) / 1e6).toBeCloseTo(98 + 135 + 40 + 87 + 245 + 2, -1);
  expect(bytes(500_000, 'telemetry.tensorboard=false') / 1e6).toBeCloseTo(98 + 135 + 40 + 87 + 2, -1);
  // The detailed records are as many, within those of the first steps.
  expect((bytes(1_000_000) - bytes(500_000)) / 500_000).toBeCloseTo(196 + 270 + 230, -1);
});
