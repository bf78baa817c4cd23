/** Functions that take the place of Math's, with the same bits on every machine. */
import type { Elementary } from './contract.js';
import { native } from './load.js';

/** Replaces the functions of Math wherever a result must have the same bits everywhere. */
export function elementary(): Elementary {
  return native().elementary;
}
