/**
 * metrics.jsonl: one object per step, validation and checkpoint. Names are snake_case and include the unit.
 */
import type { JsonlFile } from '../files/jsonl.js';
import type { Sink, StepRecord } from './record.js';

export function metricsFile(file: JsonlFile): Sink {
  return {
    step: (record) => file.append(stepObject(record)),
    validation: ({ step, results }) => {
      const weights = results.map(({ weights, mean, bins }) => [
        weights,
        { mean, bins: Object.fromEntries(bins.map(({ name, loss }) => [name, loss])) },
      ]);
      file.append({ type: 'validation', step, ...Object.fromEntries(weights) });
    },
    checkpoint: ({ step, path, seconds, stallSeconds }) =>
      file.append({ type: 'checkpoint', step, path, seconds, stall_seconds: stallSeconds }),
    close: () => file.close(),
  };
}

export function stepObject(record: StepRecord): object {
  return {
    type: 'step',
    step: record.step,
    loss: record.loss,
    gradient_norm: record.gradientNorm,
    learning_rate: record.learningRate,
    seconds: record.seconds,
    samples_per_second: record.samples / record.seconds,
    flops_per_second: record.flops / record.seconds,
    ...(record.attention === null
      ? {}
      : {
          attention: Object.fromEntries(
            record.attention.map(({ name, maxAbsLogit, meanEntropy }) => [
              name,
              { max_abs_logit: maxAbsLogit, mean_entropy_nats: meanEntropy },
            ]),
          ),
        }),
    workers: record.workers.map((worker) => ({
      rank: worker.rank,
      total_seconds: worker.totalSeconds,
      gather_seconds: worker.gatherSeconds,
      compute_seconds: worker.computeSeconds,
      exchange_seconds: worker.exchangeSeconds,
      update_seconds: worker.updateSeconds,
      exchange_bytes: worker.exchangeBytes,
      native_bytes: worker.nativeBytes,
      rss_bytes: worker.rssBytes,
      ...(worker.device === '' ? {} : { device: worker.device, device_bytes: worker.deviceBytes }),
      event_loop_p99_seconds: worker.eventLoopP99Seconds,
    })),
    unix_seconds: Date.now() / 1000,
  };
}
