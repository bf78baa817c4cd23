/** How long a run will take on this machine, from its work and a short measurement of the processor. */
import { cpus, loadavg } from 'node:os';
import { validatedWeights, validationEvery } from '../config/derived.js';
import { type Config, slotCount } from '../config/schema.js';
import type { NativeAddon } from '../native/contract.js';
import { hostOf } from '../native/host.js';
import { EPSILON_LOG_SNRS } from '../objective/objective.js';
import { type Estimate, leastTime, type Rates } from './estimate.js';
import { copyBandwidth } from './profile.js';

/**
 * The part of a large matmul's FLOP/s that the matmuls and attention of a step reach: about that of small
 * models on an idle machine.
 */
const PEAK_SHARE = 0.75;
/**
 * A run on an idle machine takes this many times the forecast, at least and at most: the caches may hold what
 * is counted as read from memory, and the exchange between workers is not counted. A run measures its own pace.
 */
export const SPREAD = { least: 0.6, most: 1.5 };
/** Less than this many times slower is not worth telling. */
const BUSY = 1.25;

const PEAK_SIDE = 512;
const PEAK_SECONDS = 0.2;
const COPIES = 3;

export interface RunTime {
  /** FLOP/s of large matmuls on the threads of all workers together. */
  peak: number;
  /** Seconds of a step, of a validation (null: there is none), and of the steps and validations that remain. */
  step: number;
  validation: number | null;
  run: number;
  /** Other processes that compute; null: few, or none. */
  busy: Busy | null;
}

interface Busy {
  /** Processes that computed or waited for a processor in the last minute, on average. */
  load: number;
  /** Processors of the machine. */
  processors: number;
  /** How many times slower the run is among them, if each thread gets the same share. */
  factor: number;
}

/** Whether `threads` more threads find the machine busy. */
export function busyness(threads: number, load = loadavg()[0]!, processors = cpus().length): Busy | null {
  const factor = (load + threads) / processors;
  return factor < BUSY ? null : { load, processors, factor };
}

/**
 * Measures the processor for about half a second.
 *
 * @param doneSteps steps that a resumed run has done already.
 */
export async function forecastRunTime(
  addon: NativeAddon,
  config: Config,
  figures: Estimate,
  doneSteps: number,
): Promise<RunTime> {
  const { spec, workers } = figures;
  const threads = Math.min(hostOf(addon).processors, spec.threads * workers);
  const busy = busyness(threads);
  const { precision } = spec;
  const peak = await addon.matmulPeak(precision, PEAK_SIDE, PEAK_SIDE, PEAK_SIDE, threads, PEAK_SECONDS);
  // The workers of a machine share its processors and its memory's bandwidth.
  const rates: Rates = {
    flops: (PEAK_SHARE * peak) / workers,
    bandwidth: copyBandwidth(COPIES) / workers,
  };
  const times = runSeconds(addon, config, figures, rates, doneSteps);
  return { peak, busy, ...times };
}

/** Seconds at the given rates of a worker. */
export function runSeconds(
  addon: Pick<NativeAddon, 'planOperations'>,
  config: Config,
  figures: Estimate,
  rates: Rates,
  doneSteps: number,
): Omit<RunTime, 'peak' | 'busy'> {
  const { spec, workers } = figures;
  const operations = (training: boolean) =>
    addon
      .planOperations({ ...spec, training })
      .reduce((sum, operation) => sum + leastTime(operation, rates).seconds, 0);
  const perWorker = Math.ceil(slotCount(config) / workers);
  const step = perWorker * config.batch.accumulate * operations(true);
  const every = validationEvery(config);
  const steps = Math.max(0, config.schedule.steps - doneSteps);
  const points = config.validation.bins + EPSILON_LOG_SNRS.length;
  const slots =
    points * Math.ceil(config.data.validation_rows / spec.microBatch) * validatedWeights(config).length;
  const validation = every === 0 ? null : Math.ceil(slots / workers) * operations(false);
  const { steps: last } = config.schedule;
  // The last step is validated in any case.
  const count = every === 0 ? 0 : Math.floor((last - 1) / every) - Math.floor(doneSteps / every) + 1;
  return { step, validation, run: steps * step + (steps === 0 ? 0 : count) * (validation ?? 0) };
}
