/** What a run tells of itself. Every sink gets the same records. */

/** One worker's part of a step. Seconds; `gather` and `compute` are summed over the worker's threads. */
export interface WorkerReport {
  rank: number;
  pid: number;
  firstSlot: number;
  endSlot: number;
  totalSeconds: number;
  gatherSeconds: number;
  computeSeconds: number;
  /** Not hidden behind compute. */
  exchangeSeconds: number;
  /** Of the step before. */
  updateSeconds: number;
  exchangeBytes: number;
  nativeBytes: number;
  rssBytes: number;
  /** Name and number of its GPU; empty on the CPU. */
  device: string;
  /** Of the GPU's memory. */
  deviceBytes: number;
  eventLoopP99Seconds: number;
}

export interface StepRecord {
  step: number;
  steps: number;
  loss: number;
  gradientNorm: number;
  learningRate: number;
  /** From the commit before to this one. */
  seconds: number;
  samples: number;
  /** Model FLOPs of the step; no credit for recomputation. */
  flops: number;
  attention: AttentionSummary[] | null;
  workers: WorkerReport[];
  /** To the end of the run at the current pace; null at the first steps, which are slower than the others. */
  etaSeconds: number | null;
}

export interface ValidationRecord {
  step: number;
  results: ValidationSummary[];
}

export interface CheckpointRecord {
  step: number;
  path: string;
  seconds: number;
  /** For which the train loop waited. */
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

/** A sink takes what it needs. Sinks are called in the order in which they were given. */
export interface Sink {
  step?(record: StepRecord): void;
  validation?(record: ValidationRecord): void;
  checkpoint?(record: CheckpointRecord): void;
  /** The run's state changed: "FORMING", "RUNNING". */
  phase?(phase: string): void;
  /** Something that a reader of the terminal should know. */
  note?(level: 'info' | 'warn' | 'error', message: string): void;
  close?(): void | Promise<void>;
}

/** Hands every record to every sink. */
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
  /** Nats; mean over workers, weighted by their slots. */
  meanEntropy: number;
}

export interface ValidationSummary {
  weights: string;
  mean: number;
  /** In the order of the bins. */
  bins: { name: string; loss: number }[];
}
