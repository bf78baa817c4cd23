/**
 * The numbers of a run, each named once: the keys of metrics.jsonl, the metrics that /metrics serves,
 * docs/reference/metrics.md and the descriptions of dashboards come from these tables. Base units, bounded
 * labels, and no label for the step.
 */
import {
  type AttentionSummary,
  type CheckpointRecord,
  MISSED_REASONS,
  type MissedCheckpoint,
  type RunHeader,
  type StepRecord,
  type ValidationRecord,
} from './record.js';
import { SLOW, slowness } from './slowness.js';

/** Before the name of every metric. */
export const PREFIX = 'orchestrator_';

/** The label of every metric: RunHeader.run. */
export const RUN_LABEL = 'run';

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
  /** All values of a counter's only label: it counts each from 0, so that the first event is an increase. */
  known?: readonly string[];
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
  /** Gathering rows, summed over threads, and the part of it during which nothing was computed. */
  gather_seconds: null,
  gather_wait_seconds: null,
  /** Forward passes (0 on a GPU), and forward and backward passes, summed over threads. */
  forward_seconds: null,
  compute_seconds: null,
  /** Gathering and computing all slots. */
  accumulate_seconds: null,
  /** Gradient exchange not hidden behind compute. */
  exchange_seconds: null,
  /** Waiting for the other workers after the exchange, and the update; of the previous step. */
  commit_seconds: null,
  update_seconds: null,
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
  const numbers = {} as WorkerNumbers;
  for (const name of names) numbers[name] = sent[name] ?? 0;
  return numbers;
}

/**
 * Where a worker's time of a step goes. The time of gathering and computing is divided as its threads spent
 * theirs. On a GPU, forward and backward are one: "compute".
 */
function phaseSeconds(n: WorkerNumbers, onGpu: boolean): Record<string, number> {
  const threads = n.gather_wait_seconds + n.compute_seconds;
  const share = (seconds: number) => (threads > 0 ? (n.accumulate_seconds * seconds) / threads : 0);
  const compute: Record<string, number> = onGpu
    ? { compute: share(n.compute_seconds) }
    : {
        forward: share(n.forward_seconds),
        backward: share(Math.max(0, n.compute_seconds - n.forward_seconds)),
      };
  return {
    data: share(n.gather_wait_seconds),
    ...compute,
    exchange: n.exchange_seconds,
    commit: n.commit_seconds,
    update: n.update_seconds,
  };
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
  epoch: [null, (r) => r.epoch],
  samples_per_second: [null, (r) => r.samples / r.seconds],
  flops_per_second: [
    gauge('model_flops_per_second', 'Model FLOP/s of the last step.'),
    (r) => r.flops / r.seconds,
  ],
};

/** Events that are counted from 0, by their names in Sink.count. */
const COUNTS = {
  restarts: counter(
    'restarts_total',
    'Generations that were formed after a fault, or when the run was resumed.',
  ),
  coordinator_restarts: counter(
    'coordinator_restarts_total',
    'Times that a coordinator took the place of one that had died.',
  ),
  replayed_steps: counter('replayed_steps_total', 'Steps that were computed again after a failure.'),
  skipped_rows: counter(
    'skipped_rows_total',
    'Drawn rows with the weight 0, because a stored value is not finite.',
  ),
  non_finite_steps: counter('non_finite_steps_total', 'Steps refused for a NaN or an infinity.'),
  state_mismatches: counter('state_mismatches_total', 'Times that weights differed between workers.'),
} satisfies Record<string, Definition>;

export type CountName = keyof typeof COUNTS;

/** What is measured at every scrape. */
export interface Surroundings {
  /** Bytes that are free on the file system of the run folder; null: not known. */
  diskFree: number | null;
}

/** Labels of an attention by its name: "block 3 attn2" is attn2 of block 03. */
const attentionLabels = ({ name, stream }: AttentionSummary): [string, string, string] => {
  const [, block = name, attention = 'attn'] = /^(block \d+)(?: (\S+))?$/.exec(name) ?? [];
  return [blockLabel(block), attention, stream];
};
/** "block 3" is "03", so that sorting as text keeps the order. */
const blockLabel = (name: string) => name.replace(/^block (\d+)$/, (_, block) => block.padStart(2, '0'));

/** The name of a time of the path in the records: "t=0.0625". */
export const timeName = (time: number) => `t=${time.toFixed(4)}`;

/** By worker, whether it was slow. */
function slowWorkers({ workers }: StepRecord): Sample[] {
  const times = slowness(workers);
  return workers.map(({ rank }, i) => [times[i]! > SLOW ? 1 : 0, String(rank)]);
}

const now = () => Date.now() / 1000;

/** All metrics, by the kind of record that changes them. */
export const METRICS: {
  readonly header: readonly Metric<RunHeader>[];
  readonly phase: readonly Metric<string>[];
  readonly generation: readonly Metric<number>[];
  readonly count: readonly Metric<Partial<Record<CountName, number>>>[];
  readonly step: readonly Metric<StepRecord>[];
  readonly validation: readonly Metric<ValidationRecord>[];
  readonly checkpoint: readonly Metric<CheckpointRecord>[];
  readonly missedCheckpoint: readonly Metric<MissedCheckpoint>[];
  readonly scrape: readonly Metric<Surroundings>[];
} = {
  header: [
    metric(gauge('run_info', 'Always 1; the label is the name of the run.'), (r) => [[1, r.name]], 'name'),
    metric(gauge('target_steps', 'Steps of the whole run.'), (r) => r.steps),
    metric(gauge('workers', 'Workers of the run.'), (r) => r.workers),
    metric(
      gauge('checkpoint_interval_steps', 'Steps between two checkpoints; 0: only at the end.'),
      (r) => r.checkpointEvery,
    ),
    metric(
      gauge('resumed_step', 'Step of the checkpoint that the run was resumed from; 0: none.'),
      (r) => r.resumedStep,
    ),
  ],
  phase: [metric(gauge('phase', '1 for the current phase of the run.'), (phase) => [[1, phase]], 'phase')],
  generation: [
    metric(gauge('generation', 'Number of the current generation of workers.'), (n) => n),
    metric(gauge('generation_timestamp_seconds', 'When the current generation was formed.'), now),
  ],
  count: Object.entries(COUNTS).map(([name, definition]) =>
    metric(definition, (counts) => counts[name as CountName] ?? 0),
  ),
  step: [
    ...Object.values(STEP_NUMBERS).flatMap(([definition, value]) =>
      definition ? [metric(definition, value)] : [],
    ),
    metric(gauge('last_step_timestamp_seconds', 'When the last step was committed.'), now),
    metric(
      gauge(
        'validating',
        '1 from the commit of a step that a validation follows to the next commit, else 0.',
      ),
      (r) => (r.validating ? 1 : 0),
    ),
    metric(gauge('matmul_peak_flops_per_second', 'FLOP/s of large matmuls, measured at the start.'), (r) =>
      r.matmulPeak > 0 ? [[r.matmulPeak]] : [],
    ),
    metric(gauge('matmul_peak_ratio', 'Model FLOP/s of the last step over the matmul peak.'), (r) =>
      r.matmulPeak > 0 ? [[r.flops / r.seconds / r.matmulPeak]] : [],
    ),
    metric(gauge('epoch', 'Passes over the rows that are trained on, since the first step.'), (r) => r.epoch),
    metric(counter('samples_total', 'Samples of the steps that this process committed.'), (r) => r.samples),
    metric(
      counter('loss_by_time_sum_total', 'Sum of the weighted losses of samples, by bin of t.'),
      (r) => r.times.map(({ name, sum }) => [sum, name]),
      'bin',
    ),
    metric(
      counter('loss_by_time_samples_total', 'Number of samples, by bin of t.'),
      (r) => r.times.map(({ name, samples }) => [samples, name]),
      'bin',
    ),
    metric(
      gauge('block_gradient_norm', 'L2 norm of the gradient before clipping, by block.'),
      (r) => Object.entries(r.gradientNorms).map(([name, norm]) => [norm, blockLabel(name)]),
      'block',
    ),
    attentionMetric(
      gauge('attention_max_abs_logit', 'Largest attention logit of the queries of a stream.'),
      (r) => r.maxAbsLogit,
    ),
    attentionMetric(
      gauge('attention_mean_entropy_nats', 'Mean entropy of the attention rows of a stream.'),
      (r) => r.meanEntropy,
    ),
    attentionMetric(
      gauge(
        'attention_logit_bound',
        'Largest logit that QK-norm allows: 8 max_j |gamma_q[j] gamma_k[j]|, over the key streams.',
      ),
      (r) => (r.logitBound > 0 ? r.logitBound : null),
    ),
    metric(
      counter(
        'worker_phase_seconds_total',
        'Time of steps by phase: data, forward, backward (compute on a GPU), exchange, commit, update.',
      ),
      (r) =>
        r.workers.flatMap(({ rank, device, numbers }) =>
          Object.entries(phaseSeconds(numbers, device !== '')).map(
            ([phase, seconds]): Sample => [seconds, String(rank), phase],
          ),
        ),
      'rank',
      'phase',
    ),
    metric(
      counter(
        'worker_slow_steps_total',
        `Steps in which the worker took ${SLOW} times as long for a slot as the median of all.`,
      ),
      slowWorkers,
      'rank',
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
    metric(
      gauge('validation_mean_loss', 'Loss on held-out rows, mean over the bins of t.'),
      (r) => r.results.map(({ weights, mean }): Sample => [mean, weights]),
      'weights',
    ),
    metric(
      gauge('ema_distance_ratio', '|EMA - weights| / |weights| at the last validation.'),
      ({ emaDistance }) => (emaDistance === null ? [] : [[emaDistance]]),
    ),
  ],
  checkpoint: [
    metric(gauge('checkpoint_step', 'Step of the last checkpoint.'), (r) => r.step),
    metric(
      gauge('checkpoint_write_seconds', 'Seconds that the last checkpoint took to write.'),
      (r) => r.seconds,
    ),
    metric(gauge('checkpoint_bytes', 'Size of the last checkpoint.'), (r) => r.bytes),
    metric(gauge('checkpoint_timestamp_seconds', 'When the last checkpoint was complete.'), now),
    metric(
      counter('checkpoint_stall_seconds_total', 'Seconds that training waited for checkpoints.'),
      (r) => r.stallSeconds,
    ),
  ],
  missedCheckpoint: [
    {
      ...metric<MissedCheckpoint>(
        counter(
          'checkpoints_missed_total',
          'Checkpoints that failed, or were skipped because another one was still being written.',
        ),
        (r) => [[1, r.reason]],
        'reason',
      ),
      known: MISSED_REASONS,
    },
  ],
  scrape: [
    metric(gauge('disk_free_bytes', 'Free bytes on the file system of the run folder.'), ({ diskFree }) =>
      diskFree === null ? [] : [[diskFree]],
    ),
  ],
};

function attentionMetric(
  definition: Definition,
  value: (summary: AttentionSummary) => number | null,
): Metric<StepRecord> {
  const read = ({ attention }: StepRecord) =>
    attention.flatMap((summary): Sample[] => {
      const found = value(summary);
      return found === null ? [] : [[found, ...attentionLabels(summary)]];
    });
  return metric(definition, read, 'block', 'attention', 'stream');
}

function workerMetric(name: keyof WorkerNumbers): Metric<StepRecord>[] {
  const definition: Definition | null = WORKER_NUMBERS[name];
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
