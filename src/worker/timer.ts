/** The longest time of a timer of Node.js. */
const LONGEST_MS = 2 ** 31 - 1;

/** A timer of seconds, however many: a user may ask for months of patience. */
export function afterSeconds(seconds: number, act: () => void): NodeJS.Timeout {
  return setTimeout(act, Math.min(1000 * seconds, LONGEST_MS));
}
