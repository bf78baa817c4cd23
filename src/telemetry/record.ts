/** The records of a run. Every sink gets the same ones. */

/** One worker's part of a step. Gather and compute seconds are summed over the worker's threads. */
export interface WorkerReport {
  rank: number;
  pid: number;
  firstSlot: number;
  endSlot: number;
  totalSeconds: number;
  gatherSeconds: number;
  computeSeconds: number;
  /** Only the time that is not hidden behind compute. */
  exchangeSeconds: number;
  /** Optimizer update of the previous step. */
  updateSeconds: number;
  exchangeBytes: number;
  nativeBytes: number;
  rssBytes: number;
  /** Name and number of the worker's GPU; empty on the CPU. */
  device: string;
  /** Allocated GPU memory. */
  deviceBytes: number;
  eventLoopP99Seconds: number;
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
  attention: AttentionSummary[] | null;
  workers: WorkerReport[];
  /** Time to the end of the run at the current pace; null during the first steps, which are slower. */
  etaSeconds: number | null;
}

export interface ValidationRecord {
  step: number;
  results: ValidationSummary[];
}

interface CheckpointRecord {
  step: number;
  path: string;
  seconds: number;
  /** Time for which the train loop waited. */
  stallSeconds: number;
}

export interface RunHeader {
  name: string;
  runDir: string;
  steps: number;
  workers: number;
  slots: number;
  samplesPerStep: number;
}

/** A sink handles the records that it needs. Sinks are called in the order in which they were given. */
export interface Sink {
  step?(record: StepRecord): void;
  validation?(record: ValidationRecord): void;
  checkpoint?(record: CheckpointRecord): void;
  /** The run entered this phase: "FORMING", "RUNNING". */
  phase?(phase: string): void;
  /** A message for the user. */
  note?(level: 'info' | 'warn' | 'error', message: string): void;
  close?(): void | Promise<void>;
}

/** Passes every record to every sink. */
export class Recorder implements Required<Sink> {
  readonly #sinks: Sink[];

  constructor(sinks: Sink[]) {
    this.#sinks = sinks;
  }

  step(record: StepRecord): void {
    for (const sink of this.#sinks) sink.step?.(record);
  }

  validation(record: ValidationRecord): void {
    for (const sink of this.#sinks) sink.validation?.(record);
  }

  checkpoint(record: CheckpointRecord): void {
    for (const sink of this.#sinks) sink.checkpoint?.(record);
  }

  phase(phase: string): void {
    for (const sink of this.#sinks) sink.phase?.(phase);
  }

  note(level: 'info' | 'warn' | 'error', message: string): void {
    for (const sink of this.#sinks) sink.note?.(level, message);
  }

  async close(): Promise<void> {
    for (const sink of this.#sinks) await sink.close?.();
  }
}

export interface AttentionSummary {
  name: string;
  maxAbsLogit: number;
  /** In nats: the mean over workers, weighted by their slots. */
  meanEntropy: number;
}

export interface ValidationSummary {
  weights: string;
  mean: number;
  /** Bins of t in ascending order. */
  bins: { name: string; loss: number }[];
}
