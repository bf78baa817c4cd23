/**
 * ledger.jsonl: for each committed step, a digest of the rows that the workers trained on, and one of what they
 * gave. The rows themselves are a function of the sample plan, whose segments the journal has, so they can be
 * computed again and compared with the digest. Ledgers of earlier versions have the rows in the place of the digest,
 * or `micro` for `slot_samples`.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import { slotSamples } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import { completeLines, parseLine } from '../files/jsonl.js';
import { offsetOfStep } from '../files/jsonl-seek.js';
import { SamplePlan } from '../step/plan.js';
import { stepsText } from '../text/quantities.js';
import { progressOf } from './progress.js';
import { recordedConfig } from './recorded-run.js';
import { JOURNAL, journalOf, LEDGER } from './run-dir.js';

const whole = z.int().min(0);
const digests = { step: whole, rows_sha256: z.string(), result_sha256: z.string().optional() };
const samples = z.int().min(1);
const ledgerSchema = z.union([
  /** `slot_samples`: batch.micro x batch.accumulate. */
  z.object({ ...digests, slot_samples: samples }),
  z
    .object({ ...digests, micro: samples })
    .transform(({ micro, ...others }) => ({ ...others, slot_samples: micro })),
  z.object({ step: whole, slots: z.array(z.array(whole)) }),
]);

type LedgerLine = z.infer<typeof ledgerSchema>;

/**
 * @param samples The number of a slot's: slot k has `rows[k * samples]` and the `samples - 1` rows after it.
 * @param result The digest of rows, losses and gradient norm, with which the step is compared when it is run again.
 */
export function ledgerLine(
  step: number,
  samples: number,
  rows: readonly number[],
  result: string,
): LedgerLine {
  return { step, slot_samples: samples, rows_sha256: digestOf(rows), result_sha256: result };
}

/** The digest of what a committed step gave; null: the ledger does not have it. */
export function recordedResult(runDir: string, step: number): string | null {
  const line = linesOf(join(runDir, LEDGER), step, step).get(step);
  return line !== undefined && 'result_sha256' in line ? (line.result_sha256 ?? null) : null;
}

/** SHA-256 of the JSON text of the rows, "[17,4,...]", in hexadecimal digits. */
function digestOf(rows: readonly number[]): string {
  return createHash('sha256').update(JSON.stringify(rows)).digest('hex');
}

/** The rows that a step trained on, by slot. */
export interface StepRows {
  step: number;
  slots: number[][];
  /** Whether the ledger has a digest of these rows, or the rows; otherwise they are those of the plan alone. */
  recorded: boolean;
}

/**
 * The rows of the steps `first` to `last` of a run.
 *
 * @throws OrchestratorError ERR_PLAN if a step was not trained, or if plan and ledger contradict each other.
 */
export async function recordedRows(runDir: string, first: number, last: number): Promise<StepRows[]> {
  const { step: trained } = await progressOf(runDir);
  if (last > trained) {
    throw new OrchestratorError(
      'ERR_PLAN',
      trained === 0
        ? `${runDir} has not trained a step yet`
        : `${runDir} has trained ${stepsText(1, trained)}, not step ${last}`,
    );
  }
  const lines = linesOf(join(runDir, LEDGER), first, last);
  const config = recordedConfig(runDir);
  const planned = planOf(runDir);
  return Array.from({ length: last - first + 1 }, (_, i) => {
    const step = first + i;
    const line = lines.get(step);
    if (line !== undefined && 'slots' in line) return { step, slots: line.slots, recorded: true };
    const rows = [...planned().samples(step, config.batch.global, 0, config.batch.global).rows];
    if (line !== undefined && line.rows_sha256 !== digestOf(rows)) {
      throw new OrchestratorError(
        'ERR_PLAN',
        `${join(runDir, LEDGER)} has another digest of the rows of step ${step} than those that the sample plan in ${JOURNAL} gives`,
        'One of these files, or batch.global in config.yaml, was changed or is damaged',
      );
    }
    return {
      step,
      slots: inSlots(rows, line?.slot_samples ?? slotSamples(config)),
      recorded: line !== undefined,
    };
  });
}

/** The lines of a ledger, by step, that are not damaged. */
function linesOf(path: string, first: number, last: number): Map<number, LedgerLine> {
  const found = new Map<number, LedgerLine>();
  for (const { line } of completeLines(path, offsetOfStep(path, first, /^{"step":(\d+),/))) {
    const { data } = ledgerSchema.safeParse(parseLine(line));
    if (data === undefined) continue;
    if (data.step > last) break;
    found.set(data.step, data);
  }
  return found;
}

/** The run's sample plan, read when it is needed: earlier versions have not written it. */
function planOf(runDir: string): () => SamplePlan {
  let plan: SamplePlan | null = null;
  return () => {
    if (plan !== null) return plan;
    const { segments } = journalOf(runDir);
    if (segments === null) {
      throw new OrchestratorError(
        'ERR_PLAN',
        `${join(runDir, JOURNAL)} has no sample plan: an earlier version wrote it, or it is damaged`,
        'It is written when the run is resumed',
      );
    }
    plan = new SamplePlan(segments);
    return plan;
  };
}

function inSlots(rows: readonly number[], samples: number): number[][] {
  return Array.from({ length: Math.ceil(rows.length / samples) }, (_, slot) =>
    rows.slice(slot * samples, (slot + 1) * samples),
  );
}
