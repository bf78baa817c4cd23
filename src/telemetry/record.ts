/** The records of a run. Every sink gets the same ones. */
import type { Prepared, Saved } from '../rpc/proto.js';
import type { CountName, WorkerNumbers } from './metrics.js';

/** One worker's part of a step. */
export interface WorkerReport {
  rank: number;
  pid: number;
  /** Slots [firstSlot, endSlot). */
  firstSlot: number;
  endSlot: number;
  /** Name and number of the worker's GPU; empty on the CPU. */
  device: string;
  numbers: WorkerNumbers;
}

export interface StepRecord {
  step: number;
  steps: number;
  loss: number;
  gradientNorm: number;
  learningRate: number;
  /** Time from the previous commit to this one. */
  seconds: number;
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
  /** Time to the end of the run at the current pace; null during the first steps, which are slower. */
  etaSeconds: number | null;
}

/** A bin of t: the sum of the weighted losses of its samples. */
export interface TimeBin {
  name: string;
  sum: number;
  samples: number;
}

/** Of the queries of one stream in one attention: the largest logit, and the mean entropy in nats. */
export type AttentionSummary = Prepared['attention'][number];

export interface ValidationRecord {
  step: number;
  results: ValidationSummary[];
  /** |EMA - master| / |master|; null without EMA. */
  emaDistance: number | null;
}

export interface ValidationSummary {
  weights: string;
  mean: number;
  /** Bins of t in ascending order. */
  bins: { name: string; loss: number }[];
}

export interface RunHeader {
  name: string;
  /** The name and when the run was started for the first time: "tiny@20261126-094430". */
  run: string;
  steps: number;
  workers: number;
  /** Steps between two checkpoints; 0: only at the end. */
  checkpointEvery: number;
}

/** A sink handles the records that it needs. */
export interface Sink {
  step?(record: StepRecord): void;
  validation?(record: ValidationRecord): void;
  checkpoint?(record: Saved): void;
  /** The workers formed a generation. */
  generation?(generation: number): void;
  /** Something happened that is counted. */
  count?(what: CountName, by: number): void;
  /** The run entered this phase: "FORMING", "RUNNING". */
  phase?(phase: string): void;
  /** A message for the user. */
  note?(level: 'info' | 'warn' | 'error', message: string): void;
  close?(): void | Promise<void>;
}

export type Recorder = Required<Sink>;

/** Passes every record to every sink, in the order in which they are given. */
export function recorderOf(sinks: readonly Sink[]): Recorder {
  const each = (pass: (sink: Sink) => void) => {
    for (const sink of sinks) pass(sink);
  };
  return {
    step: (record) => each((sink) => sink.step?.(record)),
    validation: (record) => each((sink) => sink.validation?.(record)),
    checkpoint: (record) => each((sink) => sink.checkpoint?.(record)),
    generation: (generation) => each((sink) => sink.generation?.(generation)),
    count: (what, by) => each((sink) => sink.count?.(what, by)),
    phase: (phase) => each((sink) => sink.phase?.(phase)),
    note: (level, message) => each((sink) => sink.note?.(level, message)),
    close: async () => {
      for (const sink of sinks) await sink.close?.();
    },
  };
}
