/** What a coordinator that has died has left in its records, for the one that is started in its place. */
import { join } from 'node:path';
import { parseLine } from '../files/jsonl.js';
import { linesFromEnd } from '../files/jsonl-seek.js';
import type { Former } from './events.js';
import { recordedResult } from './ledger-file.js';
import { journalOf, LEDGER, METRICS } from './run-dir.js';

/**
 * Reads the records from their end, however long they are.
 *
 * @param again Whether its workers are known to wait for another coordinator.
 */
export function formerOf(runDir: string, resumeStep: number, again: boolean): Former {
  const { workers, arithmetic } = journalOf(runDir);
  return {
    members: again ? workers.map(({ id }) => id) : [],
    arithmetic: again ? arithmetic : null,
    committed: Math.max(resumeStep, lastCommitted(join(runDir, LEDGER))),
    validated: (upTo) => lastValidated(join(runDir, METRICS), resumeStep, upTo),
    digestOf: (step) => recordedResult(runDir, step),
  };
}

/** The step of the last line of a ledger that is not damaged; 0 if there is none. */
function lastCommitted(ledger: string): number {
  for (const { line } of linesFromEnd(ledger)) {
    const step = parseLine(line)?.step;
    if (typeof step === 'number') return step;
  }
  return 0;
}

/** The last step after `since`, up to `upTo`, whose validation is recorded; `since` if there is none. */
function lastValidated(metrics: string, since: number, upTo: number): number {
  for (const { line } of linesFromEnd(metrics)) {
    const [, type, step] = /^{"type":"(step|validation)","step":(\d+),/.exec(line) ?? [];
    if (type === undefined || parseLine(line) === null) continue;
    if (Number(step) <= since) return since;
    if (type === 'validation' && Number(step) <= upTo) return Number(step);
  }
  return since;
}
