/** The learning rate as a function of the step. */
import type { Config } from '../config/schema.js';
import { elementary } from '../native/elementary.js';

/**
 * Learning rate of step `step` (counted from 1): linear from 0 to the peak at the last warm-up step, then
 * constant or half a cosine.
 */
export function learningRate({ optimizer, schedule }: Config, step: number): number {
  const { steps, warmup, decay, final } = schedule;
  if (step < warmup) return (optimizer.lr * step) / warmup;
  if (decay === 'constant' || steps === warmup) return optimizer.lr;
  const progress = (step - warmup) / (steps - warmup);
  return optimizer.lr * (final + (1 - final) * 0.5 * (1 + elementary().cos(Math.PI * progress)));
}
