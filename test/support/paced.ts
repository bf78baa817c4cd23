import { resolve } from 'node:path';
import type { Whence } from './launched.js';

/**
 * From where a run is launched of which a step takes a tenth of a second or more: as long as a test waits for something
 * else, the run takes little of the processors, and who trains as many steps afterwards, as a comparison, is soon done.
 */
export const PACED: Whence = {
  before: [],
  env: { NODE_OPTIONS: `--require ${JSON.stringify(resolve('test/support/paced.cjs'))}` },
};
