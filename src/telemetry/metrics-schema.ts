/** The lines of metrics.jsonl: configs/metrics.schema.json and docs/reference/metrics-file.md are made of this. */
import { z } from 'zod';
import { MISSED_REASONS } from './record.js';

const number = (text: string) => z.number().describe(text);
const seconds = (text: string) => z.number().min(0).describe(text);
const count = (text: string) => z.int().min(0).describe(text);

const time = seconds('When the line was written, in seconds since 1970.');

const attentionOf = {
  max_abs_logit: number('Largest logit.'),
  mean_entropy_nats: number('Mean entropy of the rows, in nats.'),
};

const worker = z.strictObject({
  rank: count('The worker.'),
  total_seconds: seconds('From the start of preparing the batch to the end of the exchange.'),
  gather_seconds: seconds('Gathering rows, summed over threads.'),
  gather_wait_seconds: seconds('The part of it during which nothing was computed.'),
  forward_seconds: seconds('Forward passes, summed over threads; 0 on a GPU.'),
  compute_seconds: seconds('Forward and backward passes, summed over threads.'),
  accumulate_seconds: seconds('Gathering and computing all slots.'),
  exchange_seconds: seconds('Exchange of gradients that is not hidden behind compute.'),
  commit_seconds: seconds('Waiting for the other workers after the exchange.'),
  update_seconds: seconds('Update of the weights, of the step before.'),
  exchange_bytes: count('Gradient bytes received.'),
  native_bytes: count('Memory allocated by the engine.'),
  rss_bytes: count('Resident memory.'),
  event_loop_p99_seconds: seconds('99th percentile of the event-loop delay.'),
  device: z.string().optional().describe('Name of its GPU; only with a GPU.'),
  device_bytes: count('GPU memory; only with a GPU.').optional(),
});

const step = z.strictObject({
  type: z.literal('step').describe('One line for each committed step.'),
  step: count('Number of the step, from 1.'),
  loss: number('Mean weighted loss of the batch.'),
  gradient_norm: number('Global L2 norm of the gradient before clipping.'),
  learning_rate: number('Learning rate of the step.'),
  seconds: seconds('From the commit before to this one, without a validation in between.'),
  epoch: number('How often the rows that are trained on have been drawn so far, on average.'),
  samples_per_second: number('Samples of the step over its seconds.'),
  flops_per_second: number('Model FLOP/s; no credit for recomputation.'),
  max_abs_logit: number('Largest attention logit; every telemetry.attention_every steps.').optional(),
  attention: z
    .record(
      z.string(),
      z.object(attentionOf).catchall(
        z.strictObject({
          ...attentionOf,
          logit_bound: number('Largest logit that QK-norm allows; only with QK-norm.').optional(),
        }),
      ),
    )
    .optional()
    .describe(
      'By attention ("block 3"), and in it by query stream; of the first sampled step after each logged one.',
    ),
  gradient_norms: z
    .record(z.string(), z.number())
    .optional()
    .describe('L2 norm of the gradient by block; in the same lines as attention.'),
  workers: z
    .array(worker)
    .optional()
    .describe('Where the time of the step went, by worker; every telemetry.log_every steps.'),
  unix_seconds: time,
});

const validation = z
  .object({
    type: z.literal('validation').describe('One line for each validation.'),
    step: count('The step after which it was made.'),
    seconds: seconds('Time of the whole validation.'),
    val_ema: number('Mean loss of the EMA on held-out rows; if it is validated.').optional(),
    val_master: number('Mean loss of the master weights; if they are validated.').optional(),
    ema_distance: number('|EMA - weights| / |weights|; with an EMA.').optional(),
    unix_seconds: time,
  })
  .catchall(
    number(
      'val_WEIGHTS_t_T: mean loss at this t, for each t of validation.bins. val_WEIGHTS_log_snr_L: mean squared error of the estimated noise at this log-SNR.',
    ),
  );

const checkpoint = z.strictObject({
  type: z.literal('checkpoint').describe('One line for each checkpoint, once it can be resumed from.'),
  step: count('Its step.'),
  path: z.string().describe('Its folder.'),
  seconds: seconds('Time to write and verify it.'),
  stall_seconds: seconds('Time for which training waited for it.'),
  bytes: count('Size of its files.'),
  unix_seconds: time,
});

const missed = z.strictObject({
  type: z
    .literal('missed_checkpoint')
    .describe('One line for each checkpoint that was due and is not there.'),
  step: count('Its step.'),
  reason: z
    .enum(MISSED_REASONS)
    .describe('failed = it could not be written; skipped = another one was still being written.'),
  code: z.string().describe('Code of the error.'),
  message: z.string().describe('What happened.'),
  unix_seconds: time,
});

export const metricsLine = z.discriminatedUnion('type', [step, validation, checkpoint, missed]);
