/** What a run writes into its folder, read from outside while it goes on. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A generation, as the journal has it. */
export interface Generation {
  unix_seconds: number;
  coordinator_restarts: number;
  /** By rank. */
  workers: { id: string; pid: number }[];
}

/** The lines of a file, without one that is being written; none where there is no file. */
export function linesOf(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').slice(0, -1);
  } catch {
    return [];
  }
}

export function recordsOf<T>(path: string): T[] {
  return linesOf(path).map((line) => JSON.parse(line) as T);
}

/** The generations that have formed; a journal has other lines, too. */
export function generationsOf(runDir: string): Generation[] {
  const lines = recordsOf<Partial<Generation>>(join(runDir, 'journal.jsonl'));
  return lines.filter((line): line is Generation => line.workers !== undefined);
}

/** The workers of the generation that formed last, by rank. */
export function workersOf(runDir: string): Generation['workers'] {
  return generationsOf(runDir).at(-1)?.workers ?? [];
}

/** The process that holds the run folder; null: none does. */
export function coordinatorOf(runDir: string): number | null {
  try {
    return (JSON.parse(readFileSync(join(runDir, 'lock'), 'utf8')) as { pid: number }).pid;
  } catch {
    return null;
  }
}
