import { describe, expect, test } from 'vitest';
import { validatedWeights } from '../../../src/config/derived.js';
import { loadConfig } from '../../../src/config/load.js';
import { EPSILON_LOG_SNRS } from '../../../src/objective/objective.js';
import type { ValidationLoss } from '../../../src/rpc/generated/orchestrator/v1/ValidationLoss.js';
import { CONTROL_MESSAGE_BYTES } from '../../../src/rpc/message-size.js';
import { Coordinator, type FromWorker } from '../../../src/rpc/proto.js';
import { MINIMAL, problems, yaml } from '../../support/config.js';

const size = (message: FromWorker) =>
  Coordinator.service.Session.requestSerialize({ generation: 2 ** 40, ...message }).length;

/** Any loss: it takes as many bytes as every other. */
const losses = (count: number) => Array.from({ length: count }, () => 0.1);

/** The largest number that the rule names. */
const most = (text: string) => Number(/at most (?:about )?(\d+)/.exec(problems(text).join())![1]);

/** The bytes by which the second message is longer than the first. */
const added = (without: FromWorker, one: FromWorker) => size(one) - size(without);

describe('the largest messages that a configuration allows are below the limit', () => {
  test.each([
    [1, 8],
    [32, 8],
    [32, 1000],
  ])('validation, with slots of %i rows and %i bins', (micro, bins) => {
    const text = (rows: number) =>
      `name: x\ndata: {path: d, validation_rows: ${rows}}\nbatch: {micro: ${micro}}\nvalidation: {bins: ${bins}}\n`;
    // A multiple of micro, so that all slots are alike.
    const rows = Math.floor(most(text(10_000_000)) / micro) * micro;
    const weights = validatedWeights(loadConfig(yaml(text(rows)), [], {})).length;
    const slots = ((bins + EPSILON_LOG_SNRS.length) * rows) / micro;
    const validated = (...all: ValidationLoss[]): FromWorker => ({
      validated: { step: 2 ** 40, losses: all, seconds: 1, emaDistance: 0.1 },
    });
    const last = { weights: 'master', slot: slots - 1, losses: losses(micro) };
    const bytes = size(validated()) + weights * slots * added(validated(), validated(last));
    expect(bytes).toBeLessThan(CONTROL_MESSAGE_BYTES);
    expect(bytes).toBeGreaterThan(CONTROL_MESSAGE_BYTES / 2);
  });

  test.each([1, 32])('a step, with slots of %i samples', (micro) => {
    const text = (global: number) => `${MINIMAL}batch: {global: ${global}, micro: ${micro}}\n`;
    const global = Math.floor(most(text(2 ** 24)) / micro) * micro;
    const slots = loadConfig(yaml(text(global)), [], {}).batch.global / micro;
    const rows = losses(micro).map(() => Number.MAX_SAFE_INTEGER);
    const slot = slots - 1;
    const one = { slot, losses: losses(micro), samples: rows, skipped: rows, times: losses(micro) };
    const nonFinite = { slot, tensor: 'transformer_blocks.1023.attn.norm_added_k.weight' };
    const empty: FromWorker = { prepared: { step: 2 ** 40, gradientNorm: 1 } };
    const prepared: FromWorker = { prepared: { ...empty.prepared, slots: [one], nonFinite: [nonFinite] } };
    expect(size(empty) + slots * added(empty, prepared)).toBeLessThan(CONTROL_MESSAGE_BYTES * 0.76);
  });
});

test('what cannot be sent in one message is refused', () => {
  expect(problems('name: x\ndata: {path: d, validation_rows: 1000}\nvalidation: {bins: 1000}\n')).toEqual([
    expect.stringMatching(
      /data.validation_rows: expected at most about \d+, because .* validation.bins \(1000\) .*received 1000$/,
    ),
  ]);
  expect(problems(`${MINIMAL}batch: {global: 4194304}\n`)).toEqual([
    expect.stringMatching(/batch.global: expected at most \d+, because .*, received 4194304$/),
  ]);
});
