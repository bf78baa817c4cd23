/**
 * What the lines of metrics.jsonl add up to. The journal has it now and then, with the size that the file had,
 * so that `status`, `runs` and `compare` read only what was written since.
 */
import { z } from 'zod';
import { isMapping, type Mapping } from '../files/json.js';
import { completeLines, JsonlFile, parseLine } from '../files/jsonl.js';
import { validationResults } from '../telemetry/metrics-reader.js';
import { comparedLoss, lower, type RunView } from '../telemetry/run-progress.js';

const validationLoss = z.object({ step: z.number(), loss: z.number() });

const totalsSchema = z.object({
  /** The time of all steps and validations. */
  seconds: z.number().min(0),
  missed_checkpoints: z.int().min(0),
  validation: z
    .object({
      weights: z.string(),
      last: validationLoss,
      best: validationLoss,
      seconds: z.number().nullable(),
    })
    .nullable(),
});

type Totals = z.infer<typeof totalsSchema>;

/** The totals of the first `bytes` bytes of the file, as a line of the journal has them. */
const recordedTotals = z.object({ bytes: z.int().min(0), ...totalsSchema.shape });

export type RecordedTotals = z.infer<typeof recordedTotals>;

/** The totals that a journal's line has; null where it has none. */
export function totalsIn(line: Mapping): RecordedTotals | null {
  return isMapping(line.metrics) ? (recordedTotals.safeParse(line.metrics).data ?? null) : null;
}

export class MetricsTotals {
  #totals: Totals;

  constructor(totals: Totals = { seconds: 0, missed_checkpoints: 0, validation: null }) {
    this.#totals = totals;
  }

  get seconds(): number {
    return this.#totals.seconds;
  }

  get missedCheckpoints(): number {
    return this.#totals.missed_checkpoints;
  }

  get validation(): RunView['validation'] {
    return this.#totals.validation;
  }

  add(line: Mapping): void {
    const seconds = typeof line.seconds === 'number' ? line.seconds : 0;
    if (line.type === 'step' || line.type === 'validation') this.#totals.seconds += seconds;
    if (line.type === 'missed_checkpoint') this.#totals.missed_checkpoints++;
    const compared = comparedLoss(validationResults(line));
    if (compared === undefined) return;
    const last = { step: line.step as number, loss: compared.mean };
    const best = lower(this.#totals.validation?.best ?? last, last);
    this.#totals.validation = { weights: compared.weights, last, best, seconds };
  }

  /** The totals of the file's first `bytes` bytes, for the journal. */
  recorded(bytes: number): RecordedTotals {
    return { bytes, ...this.#totals };
  }

  /** The totals of a file up to `upTo` bytes, of which only what came after `before` is read. */
  static of(path: string, before: RecordedTotals | null, upTo = Number.POSITIVE_INFINITY): MetricsTotals {
    const totals = new MetricsTotals(before === null ? undefined : structuredClone(before));
    for (const { line, end } of completeLines(path, before?.bytes ?? 0)) {
      if (end > upTo) break;
      // A file without totals in the journal may have a million lines of steps, which need not be parsed.
      const [, seconds] = /^{"type":"step",.*?"seconds":([^,}]+)/.exec(line) ?? [];
      const record = seconds === undefined ? parseLine(line) : { type: 'step', seconds: Number(seconds) };
      if (record !== null) totals.add(record);
    }
    return totals;
  }
}

/** metrics.jsonl while a run writes it, with what its lines add up to. */
export class MetricsFile extends JsonlFile {
  readonly #totals: MetricsTotals;

  /** @param totals of the lines that the file has. */
  constructor(path: string, totals: MetricsTotals) {
    super(path);
    this.#totals = totals;
  }

  override append(object: object): void {
    super.append(object);
    this.#totals.add(object as Mapping);
  }

  /** For the journal. */
  get recorded(): RecordedTotals {
    return this.#totals.recorded(this.bytes);
  }
}
