/**
 * Whether a run fits into the memory of a machine or a GPU. The figures are estimates without a margin, so a
 * run that is refused cannot work.
 */
import { OrchestratorError } from '../errors.js';
import { addUp, type MemoryPart, totalBytes } from './parts.js';

/** The memory that a run has to fit into. */
export interface Place {
  /** Words before the number of bytes: "this machine has", "the control group /job_1 allows". */
  source: string;
  bytes: number;
  /** Free bytes now; null where they are unknown or do not matter. */
  free: number | null;
}

/** The memory that a run needs there. */
export interface Need {
  /** Words before the number of bytes: "the run needs", "2 workers on it need". */
  who: string;
  parts: readonly MemoryPart[];
}

const NAMED_PARTS = 6;

/** The error for a run that does not fit, or null if it fits; only an error calls `hint`. */
export function refusal(need: Need, place: Place, hint: () => string): OrchestratorError | null {
  const missing = totalBytes(need.parts) - place.bytes;
  if (missing <= 0) return null;
  return new OrchestratorError(
    'ERR_OUT_OF_MEMORY',
    `${need.who} at least ${gib(totalBytes(need.parts))} of memory, and ${place.source} ${gib(place.bytes)}: ${gib(missing, Math.ceil)} are missing. ${largest(need.parts)}`,
    hint(),
  );
}

/** A warning for a run that fits, but not into the memory that is free now; otherwise null. */
export function tightness(need: Need, place: Place): string | null {
  const bytes = totalBytes(need.parts);
  if (place.free === null || bytes <= place.free) return null;
  return `${need.who} at least ${gib(bytes)} of memory, and ${place.source} ${gib(place.bytes)}, of which ${gib(place.free)} are free now: unless ${gib(bytes - place.free, Math.ceil)} become free, the system may kill the run`;
}

function largest(parts: readonly MemoryPart[]): string {
  const named = addUp(parts).slice(0, NAMED_PARTS);
  const shown = named.filter(({ bytes }) => bytes >= 0.01 * totalBytes(parts));
  return `The largest parts: ${shown.map(({ name, bytes }) => `${name} ${gib(bytes)}`).join(', ')}.`;
}

/**
 * "153.2 GiB", "1200.0 GiB", "88 MiB": one unit for all figures that may be compared in a sentence, except
 * those below 1 GiB.
 */
export function gib(bytes: number, round: (value: number) => number = Math.round): string {
  if (bytes < 2 ** 30) return `${round(bytes / 2 ** 20)} MiB`;
  return `${(round((10 * bytes) / 2 ** 30) / 10).toFixed(1)} GiB`;
}
