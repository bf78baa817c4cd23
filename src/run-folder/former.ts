/** What a coordinator that has died has left in its records, for the one that is started in its place. */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { checkpointSteps } from '../checkpoint/retention.js';
import { parseLine } from '../files/jsonl.js';
import { linesFromEnd } from '../files/jsonl-seek.js';
import { type ProcessId, processId } from '../files/processes.js';
import { bootOf, isListening, machineName } from '../rpc/local.js';
import type { Former } from '../rule/events.js';
import { recordedResult } from './ledger-file.js';
import { journalOf, LEDGER, METRICS } from './run-dir.js';
import { localCredential } from './secrets.js';

/** A worker whose coordinator and launcher are gone. It looks for the next coordinator, with what it holds. */
export interface Orphan {
  id: string;
  /** Its process; null: it is on another machine, and may be gone. */
  process: ProcessId | null;
}

/**
 * Whether workers that were not told of the end of the coordinator may hold what is of use to the next: it has died, and
 * so has left its address; or steps were committed after the last checkpoint.
 */
export function mayHold(runDir: string): boolean {
  if (localCredential(runDir) !== null) return true;
  return lastCommitted(join(runDir, LEDGER)) > Math.max(0, ...checkpointSteps(join(runDir, CHECKPOINTS)));
}

/**
 * The workers of the generation that started last, as far as they may live: on this machine that is known.
 *
 * @param elsewhere Whether workers of other machines may return, too.
 */
export function orphansOf(runDir: string, elsewhere: boolean): Orphan[] {
  const here = machineName();
  return journalOf(runDir).workers.flatMap(({ id, pid, host, machine, localAddress }): Orphan[] => {
    if (machine === undefined || localAddress === undefined) return [];
    if (machine === here) {
      if (!isListening(localAddress)) return [];
      const process = processId(pid);
      // It may have ended a moment ago.
      return process.started ? [{ id, process }] : [];
    }
    const wasBefore = host === hostname() && bootOf(machine) !== bootOf(here);
    return elsewhere && !wasBefore ? [{ id, process: null }] : [];
  });
}

/**
 * What a coordinator that has died has recorded. Long records are read from their end only.
 *
 * @param awaited Ids of the workers to wait for; null: all of the generation that started last.
 */
export function formerOf(runDir: string, resumeStep: number, awaited: readonly string[] | null): Former {
  const { workers, arithmetic } = journalOf(runDir);
  const members = awaited ?? workers.map(({ id }) => id);
  return {
    members,
    arithmetic: members.length > 0 ? arithmetic : null,
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
