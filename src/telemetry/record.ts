/** The records of a run. Every sink gets the same ones. */
import type { Fault } from '../fault.js';
import type { Prepared } from '../rpc/proto.js';
import type { CountName, WorkerNumbers } from './metrics.js';

/** One worker's part of a step. */
export interface WorkerReport {
  rank: number;
  /** The name of its machine. */
  host: string;
  pid: number;
  /** Slots [firstSlot, endSlot). */
  firstSlot: number;
  endSlot: number;
  /** Name and number of the worker's GPU; empty on the CPU. */
  device: string;
  numbers: WorkerNumbers;
}

/** A worker that was slow in most of the last steps, and does not keep up yet. */
export interface Straggler {
  rank: number;
  host: string;
  /** How many times as long as the median it takes for a slot, as a mean over the last steps. */
  times: number;
}

export interface StepRecord {
  step: number;
  steps: number;
  /** How often the rows that are trained on have been drawn so far. */
  epoch: number;
  /** Whether the plain log and run.log have a line of it; see telemetry.log_every. */
  logged: boolean;
  /** Whether metrics.jsonl has each attention and block of this step, if it was sampled, or only the largest logit. */
  attentionLogged: boolean;
  loss: number;
  gradientNorm: number;
  /** The norm to which larger gradients are clipped; infinite where it is not known. */
  clipNorm: number;
  learningRate: number;
  /** Time from the previous commit to this one, without a validation in between. */
  seconds: number;
  /** Time of all steps and validations that the run has recorded, with this step. */
  recordedSeconds: number;
  samples: number;
  /** Model FLOPs of the step; no credit for recomputation. */
  flops: number;
  /** FLOP/s of large matmuls on all workers, measured at the start; 0 if it was not. */
  matmulPeak: number;
  /** Bins of t in ascending order, those that have samples in this step. */
  times: TimeBin[];
  /** Empty if the step was not sampled. */
  attention: AttentionSummary[];
  /** By block; empty if the step was not sampled. Their squares add up to that of gradientNorm. */
  gradientNorms: Record<string, number>;
  workers: WorkerReport[];
  stragglers: readonly Straggler[];
  /** A validation follows: the next commit waits for it. */
  validating: boolean;
  /**
   * Time to the end of the run at the current pace, and whether it may be wrong by more than a tenth; null during the
   * first steps, which are slower.
   */
  eta: { seconds: number; isRough: boolean } | null;
}

/** A bin of t: the sum of the weighted losses of its samples. */
export interface TimeBin {
  name: string;
  sum: number;
  samples: number;
}

/** The largest logit and the mean entropy in nats of one attention, over the queries of one stream. */
export type AttentionSummary = Prepared['attention'][number];

export interface ValidationRecord {
  step: number;
  /** Time of the whole validation. */
  seconds: number;
  results: ValidationSummary[];
  /** |EMA - master| / |master|; null without EMA. */
  emaDistance: number | null;
}

/** How far a validation is, with all workers and weights together. */
export interface ValidatedSlots {
  done: number;
  total: number;
}

export interface ValidationSummary {
  weights: string;
  mean: number;
  /** Bins of t in ascending order. */
  bins: { name: string; loss: number }[];
  /** Mean squared error of the noise estimate at fixed log-SNRs, ascending: comparable across formulations. */
  epsilon: { name: string; loss: number }[];
}

/** A checkpoint that can be resumed from. */
export interface CheckpointRecord {
  step: number;
  path: string;
  /** Time to write and verify it. */
  seconds: number;
  /** Time for which training waited. */
  stallSeconds: number;
  /** Size of its files. */
  bytes: number;
  /** Free bytes on its disk afterwards; absent where they are not known. */
  freeBytes?: number;
}

export const MISSED_REASONS = ['failed', 'skipped'] as const;

/** A checkpoint that was due and is not there. */
export interface MissedCheckpoint {
  step: number;
  /** failed = it could not be written; skipped = another one was still being written. */
  reason: (typeof MISSED_REASONS)[number];
  fault: Fault;
}

export interface RunHeader {
  name: string;
  /** The name and when the run was started for the first time: "tiny@20261126-094430.512". */
  run: string;
  steps: number;
  workers: number;
  /** Steps between two checkpoints; 0: only at the end. */
  checkpointEvery: number;
  /** Step of the checkpoint that the run was resumed from; 0: none. */
  resumedStep: number;
  runDir: string;
  /** The checkpoint that the run was resumed from, if it is the run's own. */
  checkpoint: { step: number; path: string } | null;
  /** The weights by whose loss validations are compared; null: none are validated. */
  validatedWeights: string | null;
  /** Generations that were formed after the first one before this start of the run. */
  restarts: number;
  /** How often a coordinator has taken the place of one that had died. */
  coordinatorRestarts: number;
}

/** The first step is about to begin. */
export interface StartRecord {
  firstStep: number;
  /** The validations that the folder has recorded, in the order of their steps. */
  validations: { step: number; loss: number }[];
  /** The time of all steps and validations that it has recorded. */
  recordedSeconds: number;
}

/** A notice is no warning, but asks for something or answers the user, so `--quiet` shows it, too. */
type NoteLevel = 'info' | 'notice' | 'warn' | 'error';

/** A sink handles the records that it needs. */
export interface Sink {
  /** The first step is about to begin. Before, nothing may be written into the run folder. */
  begin?(): void;
  start?(record: StartRecord): void;
  step?(record: StepRecord): void;
  validation?(record: ValidationRecord): void;
  /** A validation is in progress: so many of its slots are computed. */
  validating?(record: ValidatedSlots): void;
  checkpoint?(record: CheckpointRecord): void;
  missedCheckpoint?(record: MissedCheckpoint): void;
  /** The workers formed a generation. */
  generation?(generation: number): void;
  /** Something happened that is counted. */
  count?(what: CountName, by: number): void;
  /** The run was suspended for so many seconds, which are none of its time. */
  suspended?(seconds: number): void;
  /** The run entered this phase: "FORMING", "RUNNING". */
  phase?(phase: string): void;
  /** A message for the user. */
  note?(level: NoteLevel, message: string): void;
  close?(): void | Promise<void>;
}

export type Recorder = Required<Sink>;

/** When the record that is being passed on was made. */
export type TimeOf = () => Date;

export const now: TimeOf = () => new Date();

/**
 * Passes every record to every sink, in the order in which they are given.
 *
 * @param onRecord Called before each record.
 */
export function recorderOf(sinks: readonly Sink[], onRecord = () => {}): Recorder {
  const each = (pass: (sink: Sink) => void) => {
    onRecord();
    for (const sink of sinks) pass(sink);
  };
  return {
    begin: () => each((sink) => sink.begin?.()),
    start: (record) => each((sink) => sink.start?.(record)),
    step: (record) => each((sink) => sink.step?.(record)),
    validation: (record) => each((sink) => sink.validation?.(record)),
    validating: (record) => each((sink) => sink.validating?.(record)),
    checkpoint: (record) => each((sink) => sink.checkpoint?.(record)),
    missedCheckpoint: (record) => each((sink) => sink.missedCheckpoint?.(record)),
    generation: (generation) => each((sink) => sink.generation?.(generation)),
    count: (what, by) => each((sink) => sink.count?.(what, by)),
    suspended: (seconds) => each((sink) => sink.suspended?.(seconds)),
    phase: (phase) => each((sink) => sink.phase?.(phase)),
    note: (level, message) => each((sink) => sink.note?.(level, message)),
    close: async () => {
      for (const sink of sinks) await sink.close?.();
    },
  };
}
