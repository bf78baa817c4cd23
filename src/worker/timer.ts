const LONGEST_MS = 2 ** 31 - 1;

/** A timer of seconds, at most 24.8 days of them, which is the longest of Node.js. */
export function afterSeconds(seconds: number, act: () => void): NodeJS.Timeout {
  return setTimeout(act, Math.min(1000 * seconds, LONGEST_MS));
}
