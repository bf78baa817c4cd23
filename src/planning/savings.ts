/** Changes to a configuration that lower the memory of its run, each measured by an estimate. */
import { validationEvery, wantedExchange } from '../config/derived.js';
import { type Config, slotCount } from '../config/schema.js';
import { threadsOf } from '../engine/spec.js';
import type { HostInfo } from '../native/contract.js';

export interface Run {
  config: Config;
  workers: number;
}

interface Change extends Run {
  /** Options of the command line: ["--set", "ema=null"]. */
  words: string[];
}

interface Saving {
  words: string[];
  bytes: number;
}

interface Savings {
  /** What each change saves by itself, largest first. */
  each: Saving[];
  /**
   * The options of all changes that save memory one after the other, and the bytes that the run then needs.
   */
  together: Saving;
}

/** The bytes that a run needs in the place where memory is short. */
type Measure = (run: Run) => number;

/**
 * Finds changes that save memory.
 *
 * @param worth Changes that save fewer bytes are left out.
 */
export function findSavings(run: Run, host: HostInfo, measure: Measure, worth: number): Savings {
  const now = measure(run);
  const each: Saving[] = [];
  let together: Change = { ...run, words: [] };
  let left = now;
  for (const propose of PROPOSALS) {
    const alone = smallest(propose(run, host), measure);
    if (alone !== null && now - alone.bytes >= worth) {
      each.push({ words: alone.change.words, bytes: now - alone.bytes });
    }
    // After other changes another value may be the best, and a change may save more than alone: larger slots,
    // once their activations are small.
    const added = smallest(propose(together, host), measure);
    if (added === null || left - added.bytes < worth / 10) continue;
    together = { ...added.change, words: [...together.words, ...added.change.words] };
    left = added.bytes;
  }
  return {
    each: each.sort((a, b) => b.bytes - a.bytes),
    together: { words: together.words, bytes: left },
  };
}

function smallest(changes: readonly Change[], measure: Measure): { change: Change; bytes: number } | null {
  const measured = changes.map((change) => ({ change, bytes: measure(change) }));
  return measured.sort((a, b) => a.bytes - b.bytes)[0] ?? null;
}

/** Each proposal changes one key, to one or more values. */
const PROPOSALS: readonly ((run: Run, host: HostInfo) => Change[])[] = [
  ({ config, workers }) => {
    const changed: Config = { ...config, activation_checkpointing: 'block' };
    return [{ config: changed, workers, words: set('activation_checkpointing=block') }];
  },
  ({ config, workers }) => {
    if (config.device === 'cuda' || wantedExchange(config, workers) !== 'grpc') return [];
    return [{ config: { ...config, exchange: 'shared' }, workers, words: set('exchange=shared') }];
  },
  ({ config }) => [{ config, workers: 1, words: ['--nodes', '1', '--nproc-per-node', '1'] }],
  ({ config, workers }, host) => {
    const threads = threadsOf(config, host, workers);
    if (config.device === 'cuda') return [];
    return [
      {
        config: { ...config, threads_per_slot: threads },
        workers,
        words: set(`threads_per_slot=${threads}`),
      },
    ];
  },
  microBatches,
  ({ config, workers }) => {
    const { validation } = config;
    const validated = validationEvery(config) > 0 && validation.weights.includes('ema');
    const changed: Config = {
      ...config,
      ema: null,
      validation: validated ? { ...validation, weights: ['master'] } : validation,
    };
    const words = [...set('ema=null'), ...(validated ? set('validation.weights=[master]') : [])];
    return [{ config: changed, workers, words }];
  },
  ({ config, workers }) => {
    const changed: Config = { ...config, precision: { ...config.precision, compute: 'bf16' } };
    return [{ config: changed, workers, words: set('precision.compute=bf16') }];
  },
];

/** Larger micro-batches leave fewer sums waiting in the tree; smaller ones need less for activations. */
function microBatches({ config, workers }: Run): Change[] {
  const { global, micro } = config.batch;
  const changes: Change[] = [];
  for (let other = micro / 1024; other <= micro * 1024; other *= 2) {
    if (other === micro || !Number.isInteger(other) || global % other !== 0) continue;
    const changed = { ...config, batch: { global, micro: other } };
    if (slotCount(changed) >= workers) {
      changes.push({ config: changed, workers, words: set(`batch.micro=${other}`) });
    }
  }
  return changes;
}

function set(assignment: string): string[] {
  return ['--set', assignment];
}
