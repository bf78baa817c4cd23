/** The processor time of the processes that this one has started. */
import { textOrNull } from '../files/io.js';

/** Ticks per second of the times in /proc; it does not depend on the kernel's own clock. */
const TICKS_PER_SECOND = 100;

/**
 * User and system seconds of the children that have ended, and of theirs: fields 16 and 17 of /proc/self/stat;
 * null where there is no such file.
 */
export function childSeconds(stat = textOrNull('/proc/self/stat')): number | null {
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [user, system] = [Number(fields?.[13]), Number(fields?.[14])];
  return Number.isFinite(user + system) ? (user + system) / TICKS_PER_SECOND : null;
}
