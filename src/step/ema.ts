/** The exponential moving average (EMA) of the weights: its decay by step, and what it holds. */
import type { Config } from '../config/schema.js';
import { elementary } from '../native/elementary.js';

type Ema = NonNullable<Config['ema']>;

/** With a larger share of the starting weights, an average shows little of the training. */
export const UNTRAINED_SHARE = 0.05;

/**
 * Fraction of the old average that step `step` (counted from 1) keeps; 1 if the average does not change.
 *
 * Every `ema.every` steps there is an update; update n keeps min(decay, (1 + n) / (10 + n)) with
 * `ema.warmup`, as TensorFlow's ExponentialMovingAverage(num_updates) and diffusers' EMAModel do, otherwise
 * decay. It depends on the step's number alone, so a run resumes at any step to the same bits.
 */
export function emaDecay({ ema }: Pick<Config, 'ema'>, step: number): number {
  if (ema === null || step % ema.every !== 0) return 1;
  const n = step / ema.every;
  return ema.warmup ? Math.min(ema.decay, (1 + n) / (10 + n)) : ema.decay;
}

interface Average {
  /** Number of updates so far. */
  updates: number;
  /** Weight of the starting weights in the average, from 0 to 1. */
  startShare: number;
  /**
   * Steps by which the averaged weights are older than the step, on average; the starting ones are of step 0.
   */
  meanAge: number;
}

/**
 * What the average holds after `step` steps, if it began as a copy of the starting weights and the keys of
 * `ema` did not change.
 *
 * With d_n the decay of update n, N the number of updates and e = `ema.every`, the share of the starting
 * weights is s_N = d_1 d_2 ... d_N, and the mean age is a_N = d_N (a_(N-1) + e), a_0 = 0, plus the steps
 * since update N. The warm-up telescopes: as long as d_n = (1 + n) / (10 + n),
 *
 *   s_n = 10! / ((n + 2) (n + 3) ... (n + 10)),   a_n = (n + 1 - s_n) e / 10.
 *
 * From there on, with a constant decay d, k further updates give
 *
 *   s = s_n d^k,   a = A + (a_n - A) d^k,   A = e d / (1 - d).
 */
export function averageAt({ decay, every, warmup }: Ema, step: number): Average {
  const updates = Math.floor(step / every);
  // Update n is one of the warm-up as long as (1 + n) / (10 + n) < decay.
  const lastOfWarmup = Math.max(0, Math.ceil((10 * decay - 1) / (1 - decay)) - 1);
  const n = warmup ? Math.min(updates, lastOfWarmup) : 0;
  let share = 1;
  for (let k = 2; k <= 10; k++) share *= k / (n + k);
  const age = ((n + 1 - share) * every) / 10;
  const kept = elementary().power(decay, updates - n);
  const limit = (every * decay) / (1 - decay);
  return {
    updates,
    startShare: share * kept,
    meanAge: limit + (age - limit) * kept + (step - updates * every),
  };
}

/**
 * "EMA of step 34 (decay 0.999 with warm-up): mean age about 3 steps; 2.3 % of it are the starting weights"
 */
export function describeAverage(ema: Ema, step: number): string {
  const { updates, startShare, meanAge } = averageAt(ema, step);
  const every = ema.every === 1 ? '' : ` every ${ema.every} steps`;
  const settings = `decay ${ema.decay}${every}${ema.warmup ? ' with warm-up' : ''}`;
  const what = `EMA of step ${step} (${settings})`;
  if (updates === 0) return `${what}: no update yet, so it is the starting weights`;
  const age = meanAge < 10 ? meanAge.toFixed(1) : meanAge.toFixed(0);
  return `${what}: mean age about ${age} steps; ${percent(startShare)} of it are the starting weights`;
}

/** A warning if the average that a run ends with will hold much of the starting weights; otherwise null. */
export function averageWarning({
  ema,
  schedule: { steps },
}: Pick<Config, 'ema' | 'schedule'>): string | null {
  if (ema === null) return null;
  const { updates, startShare } = averageAt(ema, steps);
  if (startShare <= UNTRAINED_SHARE) return null;
  if (updates === 0) {
    return `ema.every (${ema.every}) is more than schedule.steps (${steps}): the EMA will be the starting weights, bit for bit`;
  }
  const remedies = [
    'lower ema.decay',
    ...(ema.warmup ? [] : ['set ema.warmup: true']),
    'raise schedule.steps',
  ];
  return `after the last step (${steps}), ${percent(startShare)} of the EMA will be the starting weights: ${remedies.join(', or ')}`;
}

/** "37 %", "2.3 %", "less than 0.1 %" */
function percent(share: number): string {
  if (share < 0.001) return 'less than 0.1 %';
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}
