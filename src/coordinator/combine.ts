/** Numbers of a whole step from those of its slots, in an order that does not depend on the workers. */
import type { Prepared, Validated } from '../rpc/proto.js';
import { isEpsilonError } from '../step/slot.js';
import type { AttentionSummary, ValidationSummary } from '../telemetry/record.js';

function slotsOf(prepared: readonly Prepared[]): Prepared['slots'] {
  return prepared.flatMap(({ slots }) => slots).sort((a, b) => a.slot - b.slot);
}

/** Mean weighted loss of the step, summed in float64: slots ascending, samples as drawn. */
export function stepLoss(prepared: readonly Prepared[]): number {
  const losses = slotsOf(prepared).flatMap((slot) => slot.losses);
  return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
}

/** Row numbers of every slot, in ascending order of slots. */
export function slotSamples(prepared: readonly Prepared[]): number[][] {
  return slotsOf(prepared).map((slot) => slot.samples);
}

/** Largest logit and mean entropy of every attention over all workers; none if the step was not sampled. */
export function attentionSummary(prepared: readonly Prepared[]): AttentionSummary[] {
  const sampled = prepared.filter((answer) => answer.attention.length > 0);
  const slots = slotsOf(sampled).length;
  return (sampled[0]?.attention ?? []).map(({ name }, i) => ({
    name,
    maxAbsLogit: Math.max(...sampled.map(({ attention }) => attention[i]!.maxAbsLogit)),
    meanEntropy:
      sampled.reduce((sum, { attention, slots }) => sum + attention[i]!.meanEntropy * slots.length, 0) /
      slots,
  }));
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
      if (loss.weights !== weights) continue;
      const name = names[loss.slot]!;
      const bin = bins.get(name) ?? { sum: 0, count: 0 };
      for (const value of loss.losses) bin.sum += value;
      bin.count += loss.losses.length;
      bins.set(name, bin);
    }
    const all = [...bins].map(([name, { sum, count }]) => ({ name, loss: sum / count }));
    const means = all.filter(({ name }) => !isEpsilonError(name));
    return {
      weights,
      mean: means.reduce((sum, { loss }) => sum + loss, 0) / means.length,
      bins: means,
      epsilon: all.filter(({ name }) => isEpsilonError(name)),
    };
  });
}
