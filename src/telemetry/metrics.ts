/**
 * The numbers of a run, each named once: the keys of metrics.jsonl, the metrics that /metrics serves, and
 * docs/reference/metrics.md come from these tables. Base units, bounded labels, and no label for the step.
 */
import type {
  CheckpointRecord,
  MissedCheckpoint,
  RunHeader,
  StepRecord,
  ValidationRecord,
} from './record.js';

/** Before the name of every metric. */
export const PREFIX = 'orchestrator_';

interface Definition {
  type: 'counter' | 'gauge' | 'histogram';
  /** Without the prefix. */
  name: string;
  help: string;
}

/** A value, and those of the metric's labels in their order. */
type Sample = readonly [value: number, ...labels: string[]];

export interface Metric<R> extends Definition {
  labels: readonly string[];
  /** Its value in a record, or its values where it has labels; none: the record does not have it. */
  read: (record: R) => number | readonly Sample[];
}

const counter = (name: string, help: string): Definition => ({ type: 'counter', name, help });
const gauge = (name: string, help: string): Definition => ({ type: 'gauge', name, help });
const histogram = (name: string, help: string): Definition => ({ type: 'histogram', name, help });

function metric<R>(definition: Definition, read: Metric<R>['read'], ...labels: string[]): Metric<R> {
  return { ...definition, labels, read };
}

/**
 * A worker's numbers of a step, as they are called where it measures them, in its messages, and in
 * metrics.jsonl; null: only there. Their metrics are labelled with the worker's rank.
 */
const WORKER_NUMBERS = {
  /** From the start of preparing the batch to Prepared. */
  total_seconds: null,
  gather_seconds: counter('worker_gather_seconds_total', 'Gathering rows, summed over threads.'),
  compute_seconds: counter('worker_compute_seconds_total', 'Forward and backward, summed over threads.'),
  exchange_seconds: counter('worker_exchange_seconds_total', 'Gradient exchange not hidden behind compute.'),
  /** The update of the previous step. */
  update_seconds: counter('worker_update_seconds_total', 'Optimizer update.'),
  exchange_bytes: counter('worker_exchange_received_bytes_total', 'Gradient bytes received.'),
  native_bytes: gauge('worker_native_memory_bytes', 'Memory allocated by the engine.'),
  rss_bytes: gauge('worker_resident_memory_bytes', 'Resident memory.'),
  /** Only of workers with a GPU, and labelled with it. */
  device_bytes: gauge('worker_device_memory_bytes', 'GPU memory allocated by the worker.'),
  event_loop_p99_seconds: gauge('worker_event_loop_p99_seconds', '99th percentile of the event-loop delay.'),
} satisfies Record<string, Definition | null>;

export type WorkerNumbers = Record<keyof typeof WORKER_NUMBERS, number>;

const names = Object.keys(WORKER_NUMBERS) as (keyof WorkerNumbers)[];

/** The numbers that a worker has sent; one that is missing is 0, and unknown ones are left out. */
export function workerNumbers(sent: Readonly<Record<string, number>>): WorkerNumbers {
  return Object.fromEntries(names.map((name) => [name, sent[name] ?? 0])) as WorkerNumbers;
}

/** A step's numbers, by their keys in metrics.jsonl; null: only there. */
export const STEP_NUMBERS: Record<string, [Definition | null, (record: StepRecord) => number]> = {
  step: [gauge('committed_steps', 'Committed steps, including those before a resume.'), (r) => r.step],
  loss: [gauge('loss', 'Mean weighted loss of the last step.'), (r) => r.loss],
  gradient_norm: [
    gauge('gradient_norm', 'Global L2 norm of the gradient before clipping.'),
    (r) => r.gradientNorm,
  ],
  learning_rate: [gauge('learning_rate', 'Learning rate of the last step.'), (r) => r.learningRate],
  seconds: [
    histogram('step_seconds', 'Seconds from one commit to the next, without a validation.'),
    (r) => r.seconds,
  ],
  samples_per_second: [null, (r) => r.samples / r.seconds],
  flops_per_second: [
    gauge('model_flops_per_second', 'Model FLOP/s of the last step.'),
    (r) => r.flops / r.seconds,
  ],
};

/** All metrics, by the kind of record that changes them. */
export const METRICS: {
  readonly header: readonly Metric<RunHeader>[];
  readonly phase: readonly Metric<string>[];
  readonly step: readonly Metric<StepRecord>[];
  readonly validation: readonly Metric<ValidationRecord>[];
  readonly checkpoint: readonly Metric<CheckpointRecord>[];
  readonly missedCheckpoint: readonly Metric<MissedCheckpoint>[];
} = {
  header: [
    metric(gauge('run_info', 'Always 1; the label is the name of the run.'), (r) => [[1, r.name]], 'name'),
    metric(gauge('target_steps', 'Steps of the whole run.'), (r) => r.steps),
    metric(gauge('workers', 'Workers of the run.'), (r) => r.workers),
  ],
  phase: [metric(gauge('phase', '1 for the current phase of the run.'), (phase) => [[1, phase]], 'phase')],
  step: [
    ...Object.values(STEP_NUMBERS).flatMap(([definition, value]) =>
      definition ? [metric(definition, value)] : [],
    ),
    metric(counter('samples_total', 'Samples of the steps that this process committed.'), (r) => r.samples),
    metric(
      gauge('attention_max_abs_logit', 'Largest attention logit.'),
      (r) => r.attention.map(({ name, maxAbsLogit }) => [maxAbsLogit, name]),
      'attention',
    ),
    metric(
      gauge('attention_mean_entropy_nats', 'Mean entropy of the attention rows.'),
      (r) => r.attention.map(({ name, meanEntropy }) => [meanEntropy, name]),
      'attention',
    ),
    ...names.flatMap(workerMetric),
  ],
  validation: [
    metric(
      gauge('validation_loss', 'Loss on held-out rows by bin of t.'),
      (r) =>
        r.results.flatMap(({ weights, bins }) => bins.map(({ name, loss }): Sample => [loss, weights, name])),
      'weights',
      'bin',
    ),
    metric(
      gauge('validation_epsilon_error', 'Squared error of the noise estimate on held-out rows by log-SNR.'),
      (r) =>
        r.results.flatMap(({ weights, epsilon }) =>
          epsilon.map(({ name, loss }): Sample => [loss, weights, name.replace('log_snr=', '')]),
        ),
      'weights',
      'log_snr',
    ),
    metric(gauge('validation_seconds', 'Seconds that the last validation took.'), (r) => r.seconds),
  ],
  checkpoint: [
    metric(gauge('checkpoint_step', 'Step of the last checkpoint.'), (r) => r.step),
    metric(
      gauge('checkpoint_write_seconds', 'Seconds that the last checkpoint took to write.'),
      (r) => r.seconds,
    ),
    metric(
      counter('checkpoint_stall_seconds_total', 'Seconds that training waited for checkpoints.'),
      (r) => r.stallSeconds,
    ),
  ],
  missedCheckpoint: [
    metric(
      counter(
        'checkpoints_missed_total',
        'Checkpoints that failed, or were skipped because another one was still being written.',
      ),
      (r) => [[1, r.reason]],
      'reason',
    ),
  ],
};

function workerMetric(name: keyof WorkerNumbers): Metric<StepRecord>[] {
  const definition = WORKER_NUMBERS[name];
  if (definition === null) return [];
  const ofDevice = name === 'device_bytes';
  const read = ({ workers }: StepRecord) =>
    workers
      .filter(({ device }) => !ofDevice || device !== '')
      .map(
        ({ rank, device, numbers }): Sample => [numbers[name], String(rank), ...(ofDevice ? [device] : [])],
      );
  return [metric(definition, read, 'rank', ...(ofDevice ? ['device'] : []))];
}
