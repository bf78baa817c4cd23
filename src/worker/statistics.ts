/** What a worker reports of its gradient and its attentions in the steps that `telemetry` samples. */
import { blockBounds, logitBounds } from '../model/blocks.js';
import type { AccumulateResult, Engine } from '../native/contract.js';

/** Norm of the gradient of every block, after the exchange and before the update. */
export async function gradientNorms(engine: Engine): Promise<Record<string, number>> {
  const { names, bounds } = blockBounds(engine.layout());
  const norms = await engine.gradientNorms(bounds);
  return Object.fromEntries(names.map((name, i) => [name, norms[i]!]));
}

/**
 * Logits and entropies of this worker's slots.
 *
 * @param withBounds Whether to add the bounds of the logits, which all workers have in common.
 */
export async function attentionReport(engine: Engine, { statistics }: AccumulateResult, withBounds: boolean) {
  if (statistics === null) return [];
  const bounds = withBounds
    ? await logitBounds(engine.layout(), (tensor) => engine.state('master', tensor))
    : new Map<string, number>();
  return statistics.names.map((name, i) => {
    const stream = statistics.streams[i]!;
    return {
      name,
      stream,
      maxAbsLogit: statistics.maxAbsLogit[i]!,
      meanEntropy: statistics.meanEntropy[i]!,
      rows: statistics.rows[i]!,
      logitBound: bounds.get(`${name} ${stream}`) ?? 0,
    };
  });
}
