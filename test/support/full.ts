/**
 * Whether everything is to run, as in `.ci/run`, or of a long matrix the rows that stand for the others and of
 * many repetitions some, as in `npm test`.
 */
export const FULL = process.env.ORCHESTRATOR_TEST_FULL === '1';

/** All rows, of which only the given ones run in `npm test`. */
export function rows<T>(standing: readonly T[], others: readonly T[]): T[] {
  return FULL ? [...standing, ...others] : [...standing];
}
