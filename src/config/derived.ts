/** What several keys of a configuration mean together. */
import type { WeightsName } from '../native/contract.js';
import { counted } from '../text/quantities.js';
import { type Config, slotCount } from './schema.js';

/** "64 samples = 2 slots x 32", "64 samples = 2 slots x 4 micro-batches x 8" */
export function describeBatch(config: Pick<Config, 'batch'>): string {
  const { global, micro, accumulate } = config.batch;
  const each = accumulate === 1 ? '' : `${accumulate} micro-batches x `;
  return `${counted(global, 'sample')} = ${counted(slotCount(config), 'slot')} x ${each}${micro}`;
}

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

/** Without telemetry.log_every, a run has about this many lines of steps, and those of its first steps. */
const LOGGED_STEPS = 10_000;
const FIRST_STEPS = 100;

/** Whether the plain log and run.log have a line of a step of a process that began at `firstStep`. */
export function isLogged(config: LoggedSteps, step: number, firstStep: number): boolean {
  return isLoggedWithin(config, step, 1, firstStep);
}

/**
 * Whether metrics.jsonl has every attention of a sampled step: a step since the sampled one before is logged. So
 * the number of these long records does not grow with the steps, whatever the two intervals are.
 */
export function isAttentionLogged(config: LoggedSteps, step: number, firstStep: number): boolean {
  return isLoggedWithin(config, step, config.telemetry.attention_every, firstStep);
}

type LoggedSteps = Pick<Config, 'telemetry' | 'schedule'>;

/** Whether one of the `span` steps up to a step is logged. */
function isLoggedWithin(
  { telemetry, schedule: { steps } }: LoggedSteps,
  step: number,
  span: number,
  firstStep: number,
): boolean {
  const every = telemetry.log_every ?? Math.ceil(steps / LOGGED_STEPS);
  const isFirst = step - span + 1 < firstStep + (telemetry.log_every === null ? FIRST_STEPS : 1);
  return isFirst || step === steps || step % every < span;
}
