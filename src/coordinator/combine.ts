/** Numbers of a whole step from those of its slots, in an order that does not depend on the workers. */
import { mean } from '../averages.js';
import type { Prepared, Validated } from '../rpc/proto.js';
import { isEpsilonError } from '../step/slot.js';
import { timeName } from '../telemetry/metrics.js';
import type { AttentionSummary, TimeBin, ValidationSummary } from '../telemetry/record.js';

function slotsOf(prepared: readonly Prepared[]): Prepared['slots'] {
  return prepared.flatMap(({ slots }) => slots).sort((a, b) => a.slot - b.slot);
}

/** Mean weighted loss of the step, summed in float64: slots ascending, samples as drawn. */
export function stepLoss(prepared: readonly Prepared[]): number {
  return mean(slotsOf(prepared).flatMap((slot) => slot.losses));
}

/** The rows of the step in the order of the sample plan: slots ascending. */
export function stepRows(prepared: readonly Prepared[]): number[] {
  return slotsOf(prepared).flatMap((slot) => slot.samples);
}

/** Rows of the step with the weight 0, because a stored value is not finite. */
export function skippedRows(prepared: readonly Prepared[]): number[] {
  return slotsOf(prepared).flatMap((slot) => slot.skipped);
}

/**
 * The share of a step's time that forward passes took, by the worker that computed longest; null where they are not
 * timed apart.
 */
export function forwardShare(prepared: readonly Prepared[], stepSeconds: number): number | null {
  const all = (name: string) => prepared.map(({ numbers }) => numbers[name] ?? 0);
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
  // These two are summed over threads, which may compute several slots at once.
  const [forward, compute] = [sum(all('forward_seconds')), sum(all('compute_seconds'))];
  if (forward <= 0 || compute <= 0 || stepSeconds <= 0) return null;
  return (forward / compute) * Math.min(1, Math.max(...all('accumulate_seconds')) / stepSeconds);
}

/** Bins of t in which the training loss is counted. */
const TIME_BINS = 8;

/** Sums and numbers of the samples' losses by bin of t, for bins that have samples; skipped rows have none. */
export function lossByTime(prepared: readonly Prepared[]): TimeBin[] {
  const bins = Array.from({ length: TIME_BINS }, (_, i) => ({
    name: timeName((i + 0.5) / TIME_BINS),
    sum: 0,
    samples: 0,
  }));
  for (const { losses, times, samples, skipped } of slotsOf(prepared)) {
    for (const [i, loss] of losses.entries()) {
      if (skipped.includes(samples[i]!)) continue;
      const bin = bins[Math.min(TIME_BINS - 1, Math.max(0, Math.floor(times[i]! * TIME_BINS)))];
      // A message may lack a sample's time; it counts in no bin, and the step is not refused for it.
      if (bin === undefined) continue;
      bin.sum += loss;
      bin.samples++;
    }
  }
  return bins.filter(({ samples }) => samples > 0);
}

/**
 * Largest logit and mean entropy over all workers, of every attention and query stream; none if the step was
 * not sampled.
 */
export function attentionSummary(prepared: readonly Prepared[]): AttentionSummary[] {
  const sampled = prepared.filter((answer) => answer.attention.length > 0);
  return (sampled[0]?.attention ?? []).map(({ name, stream }, i) => {
    const all = sampled.map(({ attention }) => attention[i]!);
    const rows = all.reduce((sum, of) => sum + of.rows, 0);
    return {
      name,
      stream,
      maxAbsLogit: Math.max(...all.map(({ maxAbsLogit }) => maxAbsLogit)),
      meanEntropy: all.reduce((sum, of) => sum + of.meanEntropy * of.rows, 0) / rows,
      rows,
      logitBound: Math.max(...all.map(({ logitBound }) => logitBound)),
    };
  });
}

/**
 * Mean loss of every bin of t and of all bins, and the error of eps at fixed log-SNRs, for each kind of
 * weights. Slots are summed in ascending order.
 *
 * @param names Bin or log-SNR of each validation slot, in slot order.
 */
export function validationSummary(
  parts: readonly Validated[],
  names: readonly string[],
): ValidationSummary[] {
  const losses = parts.flatMap((part) => part.losses).sort((a, b) => a.slot - b.slot);
  const kinds = [...new Set(losses.map(({ weights }) => weights))].sort();
  return kinds.map((weights) => {
    const bins = new Map<string, { sum: number; count: number }>();
    for (const loss of losses) {
      const name = names[loss.slot];
      // A worker may say anything; what is no slot of the validation counts nowhere.
      if (loss.weights !== weights || name === undefined) continue;
      const bin = bins.get(name) ?? { sum: 0, count: 0 };
      for (const value of loss.losses) bin.sum += value;
      bin.count += loss.losses.length;
      bins.set(name, bin);
    }
    const all = [...bins].map(([name, { sum, count }]) => ({ name, loss: sum / count }));
    const means = all.filter(({ name }) => !isEpsilonError(name));
    return {
      weights,
      mean: mean(means.map(({ loss }) => loss)),
      bins: means,
      epsilon: all.filter(({ name }) => isEpsilonError(name)),
    };
  });
}
