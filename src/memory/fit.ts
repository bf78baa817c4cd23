/** Whether a run fits into the memory of a machine or a GPU. The figures are estimates without a margin: what is refused cannot run. */
import { OrchestratorError } from '../errors.js';
import { addUp, type MemoryPart, totalBytes } from './parts.js';

export interface Place {
  /** "this machine has", "GPU 0 (NVIDIA H200) has": what stands before the number of bytes. */
  source: string;
  bytes: number;
  /** Null where it is unknown, or of no interest. */
  free: number | null;
}

/** What a run takes there. */
export interface Need {
  /** "the run needs", "2 workers on it need": what stands before the number of bytes. */
  who: string;
  parts: readonly MemoryPart[];
}

const NAMED_PARTS = 6;

/** Null where the run fits. The hint is asked for only where it does not. */
export function refusal(need: Need, place: Place, hint: () => string): OrchestratorError | null {
  const missing = totalBytes(need.parts) - place.bytes;
  if (missing <= 0) return null;
  return new OrchestratorError(
    'ERR_OUT_OF_MEMORY',
    `${need.who} at least ${gib(totalBytes(need.parts))} of memory, and ${place.source} ${gib(place.bytes)}: ${gib(missing, Math.ceil)} are missing. ${largest(need.parts)}`,
    { hint: hint() },
  );
}

/** Where the run fits, but not beside what runs now; else null. */
export function tightness(need: Need, place: Place): string | null {
  const bytes = totalBytes(need.parts);
  if (place.free === null || bytes <= place.free) return null;
  return `${need.who} at least ${gib(bytes)} of memory, and of the ${gib(place.bytes)} that ${place.source} ${gib(place.free)} are free now: unless ${gib(bytes - place.free, Math.ceil)} become free, the system may end the run`;
}

function largest(parts: readonly MemoryPart[]): string {
  const named = addUp(parts).slice(0, NAMED_PARTS);
  const shown = named.filter(({ bytes }) => bytes >= 0.01 * totalBytes(parts));
  return `The largest parts: ${shown.map(({ name, bytes }) => `${name} ${gib(bytes)}`).join(', ')}.`;
}

/** "153.2 GiB", "1200.0 GiB", "88 MiB": one unit for all that may be compared in a sentence, but for the smallest runs. */
export function gib(bytes: number, round: (value: number) => number = Math.round): string {
  if (bytes < 2 ** 30) return `${round(bytes / 2 ** 20)} MiB`;
  return `${(round((10 * bytes) / 2 ** 30) / 10).toFixed(1)} GiB`;
}
