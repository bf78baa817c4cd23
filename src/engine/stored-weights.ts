/**
 * What the weights of a checkpoint are, in words: which ones, of which step, and how much an average lags.
 */
import { basename, dirname } from 'node:path';
import { type CheckpointManifest, EMA_FILE, MODEL_FILE, readManifest } from '../checkpoint/manifest.js';
import { storedConfig } from '../config/resume.js';
import type { Config } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import type { WeightsName } from '../native/contract.js';
import { averageAt, describeAverage, UNTRAINED_SHARE } from '../step/ema.js';

export interface StoredWeights {
  /**
   * "EMA of step 34 (decay 0.999 with warm-up): mean age about 3.4 steps; ...", or "master weights of step
   * 34"
   */
  text: string;
  /** Whether they are an average with a large share of the starting weights (UNTRAINED_SHARE). */
  untrained: boolean;
}

/**
 * Describes weights of a checkpoint. The figures of an average are those of a run whose keys of `ema` have
 * been as in the checkpoint from the beginning.
 */
export function storedWeights(
  { step, config }: Pick<CheckpointManifest, 'step' | 'config'>,
  weights: WeightsName,
): StoredWeights {
  if (weights === 'master') return { text: `master weights of step ${step}`, untrained: false };
  const stored = readable(config);
  if (stored === null || stored.ema === null) return { text: `EMA of step ${step}`, untrained: false };
  const { ema, init } = stored;
  const start = init === null ? '' : ` (those of ${init})`;
  return {
    text: `${describeAverage(ema, step)}${start}`,
    untrained: averageAt(ema, step).startShare > UNTRAINED_SHARE,
  };
}

/** Describes the weights at a path if it is the file of a checkpoint; null for any other path. */
export async function storedAt(path: string): Promise<StoredWeights | null> {
  const file = basename(path);
  if (file !== MODEL_FILE && file !== EMA_FILE) return null;
  try {
    return storedWeights(await readManifest(dirname(path)), file === EMA_FILE ? 'ema' : 'master');
  } catch (error) {
    if (error instanceof OrchestratorError) return null;
    throw error;
  }
}

/** Sentences for whoever uses the weights; none for null. */
export function notesOn(stored: StoredWeights | null): string[] {
  return stored === null ? [] : [`Weights: ${stored.text}`];
}

/** The warning of whoever uses untrained weights. */
export const UNTRAINED = 'this average shows little of the training; the master weights are the trained ones';

/**
 * The configuration of a checkpoint; null if it is none for this version, which is no reason not to use its
 * weights.
 */
function readable(config: unknown): Config | null {
  try {
    return storedConfig(config, 'the config in the checkpoint');
  } catch (error) {
    if (error instanceof OrchestratorError) return null;
    throw error;
  }
}
