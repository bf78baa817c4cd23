/** Notices that the coordinator did not run for a while, and why. */
import { textOrNull } from '../files/io.js';
import { timeSpan } from '../text/quantities.js';

/** Without an event for this long, despite the ticks, the coordinator stood still. */
const STILL_MS = 5_000;
/** The scheduler is asked no more often: where a standstill begins is known as exactly as this. */
const ASKED_EVERY_MS = 200;

/** What the scheduler says of this process's main thread. */
export interface Scheduled {
  /** Milliseconds in which it ran, and in which it could have run but had no processor. */
  ran: number;
  waited: number;
}

/**
 * - suspended: most of the time it neither ran nor waited for a processor, as after SIGSTOP, or in a call that waited
 *   for the disk.
 * - overloaded: other programs had the processors.
 * - busy: it computed.
 * - unknown: the scheduler does not say.
 */
type StandstillCause = 'suspended' | 'overloaded' | 'busy' | 'unknown';

export interface Standstill {
  seconds: number;
  cause: StandstillCause;
}

export class StandstillWatch {
  readonly #scheduled: () => Scheduled | null;
  #lastEvent: number;
  #asked: number;
  #before: Scheduled | null;

  /** @param now Milliseconds of a monotonic clock, as everywhere here. */
  constructor(now: number, scheduled = scheduledOfMainThread) {
    this.#scheduled = scheduled;
    this.#lastEvent = now;
    this.#asked = now;
    this.#before = scheduled();
  }

  /** Called with each event; null: this process did not stand still before it. */
  event(now: number): Standstill | null {
    const ms = now - this.#lastEvent;
    this.#lastEvent = now;
    if (ms < STILL_MS && now - this.#asked < ASKED_EVERY_MS) return null;
    const before = this.#before;
    this.#asked = now;
    this.#before = this.#scheduled();
    return ms < STILL_MS ? null : { seconds: ms / 1000, cause: causeOf(ms, before, this.#before) };
  }
}

function causeOf(ms: number, before: Scheduled | null, after: Scheduled | null): StandstillCause {
  if (before === null || after === null) return 'unknown';
  const ran = after.ran - before.ran;
  const waited = after.waited - before.waited;
  if (ran + waited <= ms / 2) return 'suspended';
  return waited >= ran ? 'overloaded' : 'busy';
}

/** Null where the kernel does not count it. */
export function scheduledOfMainThread(): Scheduled | null {
  const numbers = (textOrNull('/proc/self/schedstat') ?? '').split(' ').map((each) => Number(each) / 1e6);
  const [ran = 0, waited = 0] = numbers;
  return ran > 0 && waited >= 0 ? { ran, waited } : null;
}

const WHY: Record<StandstillCause, string> = {
  suspended: 'it was suspended, or waited for the disk',
  overloaded: 'the machine is overloaded, and the coordinator had no processor',
  busy: 'the coordinator was busy',
  unknown: 'it was suspended, or the machine is overloaded',
};

export function describeStandstill({ seconds, cause }: Standstill): string {
  return `the run stood still for ${timeSpan(seconds)}: ${WHY[cause]}`;
}
