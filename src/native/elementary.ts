import type { Elementary } from './contract.js';
import { native } from './load.js';

/** What takes the place of Math's functions wherever a result has to be the same bits everywhere. Throws ERR_NATIVE_MISSING. */
export function elementary(): Elementary {
  return native().elementary;
}
