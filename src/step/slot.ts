/** The batch of one slot in a training step or a validation, as a pure function of the counters. */
import type { Config } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import type { EvaluateBatch, SlotBatch } from '../native/contract.js';
import { parseDensity, sampleTime, shiftTime } from '../objective/density.js';
import { COEFFICIENTS, FORMULATIONS, writeCoefficients } from '../objective/formulations.js';
import { drawUniforms, STREAM } from '../random/philox.js';
import { SAMPLE_ID_STRIDE, type SamplePlan } from './plan.js';

/** The part of the configuration that a slot depends on. */
export type SlotConfig = Pick<Config, 'seed' | 'data' | 'objective' | 'batch' | 'validation'>;

/** Bits of SlotBatch.dropped. */
export const DROP = { clip_l: 1, clip_g: 2, t5: 4 } as const;

/** Step number in the counters of validation draws; training steps count from 1. */
export const VALIDATION_STEP = 0;

export interface TrainingSlot extends SlotBatch {
  /** t of each sample, after the resolution shift. */
  times: Float64Array;
}

export interface ValidationSlot extends EvaluateBatch {
  /** Bin number, the same for all samples of a slot. */
  bin: number;
  /** (bin + 0.5) / bins. */
  time: number;
  /** Number of samples that count; the rest only fill the slot and are to be ignored. */
  count: number;
}

/**
 * The batch of a slot in a training step (counted from 1). `hasSynthetic`: whether the data set has synthetic
 * captions.
 */
export function slotBatch(
  config: SlotConfig,
  plan: SamplePlan,
  step: number,
  slot: number,
  hasSynthetic: boolean,
): TrainingSlot {
  const { micro, global } = config.batch;
  const density = parseDensity(config.objective.density);
  if (!density) throw new OrchestratorError('ERR_CONFIG', `objective.density: "${config.objective.density}"`);
  const { rows, sampleIds } = plan.samples(step, global, slot * micro, micro);
  const batch = emptyBatch(rows, sampleIds);
  const times = new Float64Array(micro);
  const { drop } = config.data;
  const seed = BigInt(config.seed);
  for (let i = 0; i < micro; i++) {
    const draw = (stream: number) => drawUniforms({ seed, stream, step, sampleId: sampleIds[i]! });
    const time = draw(STREAM.time);
    const t = shiftTime(sampleTime(density, time[0]!, time[1]!), config.objective.shift);
    times[i] = t;
    writeCoefficients(batch.coefficients, i, FORMULATIONS[config.objective.formulation](t));
    batch.synthetic[i] = drawCaption(config, seed, step, sampleIds[i]!, hasSynthetic);
    const u = draw(STREAM.drop);
    batch.dropped[i] =
      (u[0]! < drop.clip_l ? DROP.clip_l : 0) |
      (u[1]! < drop.clip_g ? DROP.clip_g : 0) |
      (u[2]! < drop.t5 ? DROP.t5 : 0);
  }
  return { slot, ...batch, times };
}

/**
 * The slots of a validation: each held-out row at the middle of every bin of t, without dropping encoders;
 * noise and captions are the same in every validation. Slots have batch.micro samples and are ordered by bin.
 * They must be evaluated at step VALIDATION_STEP.
 */
export function validationSlots(
  config: SlotConfig,
  plan: SamplePlan,
  hasSynthetic: boolean,
): ValidationSlot[] {
  const { micro } = config.batch;
  const { bins } = config.validation;
  const seed = BigInt(config.seed);
  const slots: ValidationSlot[] = [];
  for (let bin = 0; bin < bins; bin++) {
    const time = (bin + 0.5) / bins;
    for (let first = 0; first < plan.validation.length; first += micro) {
      const count = Math.min(micro, plan.validation.length - first);
      const rows = Float64Array.from({ length: micro }, (_, i) => plan.validation[first + (i % count)]!);
      const batch = emptyBatch(
        rows,
        rows.map((row) => row + (bin % 256) * SAMPLE_ID_STRIDE),
      );
      for (let i = 0; i < micro; i++) {
        writeCoefficients(batch.coefficients, i, FORMULATIONS[config.objective.formulation](time));
        batch.synthetic[i] = drawCaption(config, seed, VALIDATION_STEP, rows[i]!, hasSynthetic);
      }
      slots.push({ ...batch, bin, time, count });
    }
  }
  return slots;
}

function emptyBatch(rows: Float64Array, sampleIds: Float64Array): EvaluateBatch {
  const n = rows.length;
  return {
    rows,
    synthetic: new Uint8Array(n),
    dropped: new Uint8Array(n),
    coefficients: new Float32Array(n * COEFFICIENTS),
    sampleIds,
  };
}

/** Draws the caption of a sample: 1 = synthetic, 0 = original. */
function drawCaption(
  config: SlotConfig,
  seed: bigint,
  step: number,
  sampleId: number,
  hasSynthetic: boolean,
): number {
  if (!hasSynthetic) return 0;
  const key = { seed, stream: STREAM.caption, step, sampleId };
  return drawUniforms(key)[0]! < config.data.synthetic_captions ? 1 : 0;
}
