/** The processor time of the processes that this one has started. */
import { textOrNull } from '../files/io.js';
import { statFields, TICKS_PER_SECOND } from '../files/processes.js';

/**
 * User and system seconds of the children that have ended, and of theirs: fields 16 and 17 of /proc/self/stat;
 * null where there is no such file.
 */
export function childSeconds(stat = textOrNull('/proc/self/stat')): number | null {
  const fields = statFields(stat);
  const [user, system] = [Number(fields[13]), Number(fields[14])];
  return Number.isFinite(user + system) ? (user + system) / TICKS_PER_SECOND : null;
}
