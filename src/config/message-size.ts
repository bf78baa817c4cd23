/**
 * How large the messages of a worker become that grow with the configuration. At worst one worker is left, and its
 * messages have the losses of all slots.
 */
import { EPSILON_LOG_SNRS } from '../objective/objective.js';
import { CONTROL_MESSAGE_BYTES } from '../rpc/message-size.js';
import { validatedWeights } from './derived.js';
import { type Config, slotCount } from './schema.js';

/** What is kept free for the rest of a Prepared, such as the statistics of each block; Validated has a few bytes. */
const REST = { step: 4 * 1024 * 1024, validation: 1024 };

/** A loss and a t, of 8 bytes each, and a row number below 2^53, twice if it is skipped. */
const SAMPLE_BYTES = 32;
/** Tags, lengths and number of a slot, and the name of a tensor whose gradient is not finite. */
const SLOT_BYTES = 136;
/** Tags, lengths and number of a validation slot, and the name of its weights. */
const VALIDATION_SLOT_BYTES = 24;

/** Part of the message limit that the losses of a step (Prepared) take at most; more than 1: too much. */
export function stepShare(config: Pick<Config, 'batch'>): number {
  const bytes = config.batch.global * SAMPLE_BYTES + slotCount(config) * SLOT_BYTES;
  return bytes / (CONTROL_MESSAGE_BYTES - REST.step);
}

/** Part of the message limit that the losses of a validation (Validated) take at most; 0: there is none. */
export function validationShare(config: Pick<Config, 'batch' | 'data' | 'ema' | 'validation'>): number {
  const { validation_rows: rows } = config.data;
  const points = config.validation.bins + EPSILON_LOG_SNRS.length;
  const bytes = rows * 8 + Math.ceil(rows / config.batch.micro) * VALIDATION_SLOT_BYTES;
  return (validatedWeights(config).length * points * bytes) / (CONTROL_MESSAGE_BYTES - REST.validation);
}
