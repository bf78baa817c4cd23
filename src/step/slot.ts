/** The batches of slots in training and validation, as a pure function of the counters. */
import { type Config, slotSamples } from '../config/schema.js';
import type { EvaluateBatch, SlotBatch } from '../native/contract.js';
import { COEFFICIENTS, epsilonErrorPerError, writeCoefficients } from '../objective/coefficients.js';
import { EPSILON_LOG_SNRS, type Objective } from '../objective/objective.js';
import { drawUniforms, STREAM } from '../random/philox.js';
import { SAMPLE_ID_STRIDE, type SamplePlan } from './plan.js';

/** The part of the configuration that a slot depends on. */
export type SlotConfig = Pick<Config, 'seed' | 'batch' | 'validation'> & {
  data: Pick<Config['data'], 'synthetic_captions' | 'drop'>;
};

/** Bits of SlotBatch.dropped: a text encoder each, or the whole row. */
export const DROP = { clip_l: 1, clip_g: 2, t5: 4, row: 8 } as const;

/** Step number in the counters of validation draws; training steps count from 1. */
export const VALIDATION_STEP = 0;

/** Different draws of noise that a row can have in a validation: ids stay below 2^52 (SAMPLE_ID_STRIDE). */
const DRAWS = 256;

const LOG_SNR = 'log_snr=';
const logSnrName = (lambda: number) => `${LOG_SNR}${lambda}`;

/** Whether the name of a validation slot says that its losses are errors of eps at a fixed log-SNR. */
export const isEpsilonError = (name: string) => name.startsWith(LOG_SNR);

export interface TrainingSlot extends SlotBatch {
  /** Level of each sample (t, index or sigma; see Path), after the resolution shift. */
  levels: Float64Array;
}

interface ValidationSlot extends EvaluateBatch {
  /** Where on the path its samples are: `t=0.0625` for a bin of t, `log_snr=-5.25` for a fixed log-SNR. */
  name: string;
  /** By which the error of the network's output is multiplied: 1 for bins, otherwise what makes it that of eps. */
  scale: number;
  /** Number of samples that count; the rest only fill the slot and are to be ignored. */
  count: number;
}

/** Makes the batches of a run's slots. */
export class SlotBatches {
  readonly #config: SlotConfig;
  readonly #seed: bigint;
  readonly #objective: Objective;
  readonly #plan: SamplePlan;
  readonly #hasSynthetic: boolean;

  /** @param hasSynthetic whether the data set has synthetic captions. */
  constructor(config: SlotConfig, objective: Objective, plan: SamplePlan, hasSynthetic: boolean) {
    this.#config = config;
    this.#seed = BigInt(config.seed);
    this.#objective = objective;
    this.#plan = plan;
    this.#hasSynthetic = hasSynthetic;
  }

  /** The batch of a slot in a training step; steps count from 1. */
  training(step: number, slot: number): TrainingSlot {
    const count = slotSamples(this.#config);
    const { drop } = this.#config.data;
    const { rows, sampleIds } = this.#plan.samples(step, this.#config.batch.global, slot * count, count);
    const batch = emptyBatch(rows, sampleIds);
    const levels = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      const draw = (stream: number) => this.#draw(stream, step, sampleIds[i]!);
      const [u1, u2] = draw(STREAM.time);
      levels[i] = this.#objective.drawLevel(u1!, u2!);
      writeCoefficients(batch.coefficients, i, this.#objective.at(levels[i]!));
      batch.synthetic[i] = this.#caption(step, sampleIds[i]!);
      const u = draw(STREAM.drop);
      batch.dropped[i] =
        (u[0]! < drop.clip_l ? DROP.clip_l : 0) |
        (u[1]! < drop.clip_g ? DROP.clip_g : 0) |
        (u[2]! < drop.t5 ? DROP.t5 : 0);
    }
    return { slot, ...batch, levels };
  }

  /**
   * The slots of a validation: each held-out row at the middle of every bin of t, and at EPSILON_LOG_SNRS,
   * without dropping encoders; noise and captions are the same in every validation. At a fixed log-SNR the
   * noise is also the same for every formulation. They have batch.micro samples and are ordered by point.
   * They must be evaluated at step VALIDATION_STEP.
   */
  validation(): ValidationSlot[] {
    const { micro } = this.#config.batch;
    const { bins } = this.#config.validation;
    const objective = this.#objective;
    const times = Array.from({ length: bins }, (_, bin) => (bin + 0.5) / bins);
    const points = [
      ...times.map((t, bin) => ({
        name: `t=${t.toFixed(4)}`,
        coefficients: objective.at(objective.level(t)),
        isEpsilon: false,
        draws: bin % DRAWS,
      })),
      ...EPSILON_LOG_SNRS.map((lambda, i) => ({
        name: logSnrName(lambda),
        coefficients: objective.at(objective.levelOfLogSnr(lambda)),
        isEpsilon: true,
        draws: DRAWS - 1 - i,
      })),
    ];
    const held = this.#plan.validation;
    const slots: ValidationSlot[] = [];
    for (const { name, coefficients, isEpsilon, draws } of points) {
      const scale = isEpsilon ? epsilonErrorPerError(coefficients) : 1;
      for (let first = 0; first < held.length; first += micro) {
        const count = Math.min(micro, held.length - first);
        const rows = Float64Array.from({ length: micro }, (_, i) => held[first + (i % count)]!);
        const sampleIds = rows.map((row) => row + draws * SAMPLE_ID_STRIDE);
        const batch = emptyBatch(rows, sampleIds);
        for (let i = 0; i < micro; i++) {
          writeCoefficients(batch.coefficients, i, coefficients);
          batch.synthetic[i] = this.#caption(VALIDATION_STEP, rows[i]!);
        }
        slots.push({ ...batch, name, scale, count });
      }
    }
    return slots;
  }

  /** Draws the caption of a sample: 1 = synthetic, 0 = original. */
  #caption(step: number, sampleId: number): number {
    if (!this.#hasSynthetic) return 0;
    return this.#draw(STREAM.caption, step, sampleId)[0]! < this.#config.data.synthetic_captions ? 1 : 0;
  }

  #draw(stream: number, step: number, sampleId: number): Float64Array {
    return drawUniforms({ seed: this.#seed, stream, step, sampleId });
  }
}

function emptyBatch(rows: Float64Array, sampleIds: Float64Array): EvaluateBatch {
  const n = rows.length;
  return {
    rows,
    synthetic: new Uint8Array(n),
    dropped: new Uint8Array(n),
    coefficients: new Float32Array(n * COEFFICIENTS.length),
    sampleIds,
  };
}
