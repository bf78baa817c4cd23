/** What several keys of a configuration mean together. */
import type { WeightsName } from '../native/contract.js';
import type { Config } from './schema.js';

/** Steps between two validations; 0: there is none. */
export function validationEvery({ data, validation }: Pick<Config, 'data' | 'validation'>): number {
  return data.validation_rows > 0 ? validation.every : 0;
}

/** The weights that are validated, in order; none if there is no validation. */
export function validatedWeights(config: Pick<Config, 'data' | 'ema' | 'validation'>): WeightsName[] {
  if (validationEvery(config) === 0) return [];
  return config.validation.weights ?? (config.ema === null ? ['master'] : ['ema', 'master']);
}

/**
 * How `workers` workers sum their gradients if their machines and GPUs allow it; where they do not, `auto`
 * becomes grpc and other values are errors.
 */
export function wantedExchange(
  { device, exchange }: Pick<Config, 'device' | 'exchange'>,
  workers: number,
): 'none' | 'shared' | 'nccl' | 'grpc' {
  if (workers === 1) return 'none';
  if (exchange !== 'auto') return exchange;
  return device === 'cuda' ? 'nccl' : 'shared';
}

/** A run has at most about this many lines of steps, unless telemetry.log_every says otherwise. */
const LOGGED_STEPS = 10_000;

/** Steps between two lines of steps in the plain log and in run.log. */
export function logEvery({ telemetry, schedule }: Pick<Config, 'telemetry' | 'schedule'>): number {
  return telemetry.log_every ?? Math.ceil(schedule.steps / LOGGED_STEPS);
}
