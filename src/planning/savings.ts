/** Changes to a configuration that lower the memory of its run, each measured by an estimate. */
import { validationEvery, wantedExchange } from '../config/derived.js';
import { changedKeys } from '../config/resume.js';
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

/**
 * Finds changes that save memory: what each saves by itself, largest first; and together, the options of all
 * that save some after those before them, with the bytes that the run then needs.
 *
 * @param measure The bytes that a run needs in the place where memory is short.
 * @param worth Changes that save fewer bytes are left out.
 * @param isResumed Changes that a run which is resumed would refuse are left out.
 */
export function findSavings(
  run: Run,
  host: HostInfo,
  measure: (run: Run) => number,
  worth: number,
  isResumed: boolean,
) {
  const proposed = (propose: Proposal, from: Run) =>
    propose(from, host).filter((change) => !isResumed || mayChange(run, change));
  const smallest = (changes: readonly Change[]) =>
    changes
      .map((change) => ({ ...change, bytes: measure(change) }))
      .sort((a, b) => a.bytes - b.bytes)
      .at(0);
  const now = measure(run);
  const each: { words: string[]; bytes: number }[] = [];
  let together = { ...run, words: [] as string[], bytes: now };
  for (const propose of PROPOSALS) {
    const alone = smallest(proposed(propose, run));
    if (alone && now - alone.bytes >= worth) each.push({ words: alone.words, bytes: now - alone.bytes });
    // After other changes another value may be the best, and a change may save more than alone: larger slots,
    // once their activations are small.
    const added = smallest(proposed(propose, together));
    if (!added || together.bytes - added.bytes < worth / 10) continue;
    together = { ...added, words: [...together.words, ...added.words] };
  }
  return { each: each.sort((a, b) => b.bytes - a.bytes), together };
}

/** A change of the configuration, as --set makes it. */
function changed({ config, workers }: Run, change: Partial<Config>, ...assignments: string[]): Change {
  const words = assignments.flatMap((assignment) => ['--set', assignment]);
  return { config: { ...config, ...change }, workers, words };
}

/** Whether a run goes on with the changed configuration. */
function mayChange(run: Run, change: Change): boolean {
  return changedKeys(run.config, change.config).every(({ rule }) => rule.change !== 'refused');
}

type Proposal = (run: Run, host: HostInfo) => Change[];

/** Each proposal changes one key, to one or more values. */
const PROPOSALS: readonly Proposal[] = [
  (run) => [changed(run, { activation_checkpointing: 'block' }, 'activation_checkpointing=block')],
  (run) => {
    const { config, workers } = run;
    if (config.device === 'cuda' || wantedExchange(config, workers) !== 'grpc') return [];
    return [changed(run, { exchange: 'shared' }, 'exchange=shared')];
  },
  ({ config }) => [{ config, workers: 1, words: ['--nodes', '1', '--nproc-per-node', '1'] }],
  (run, host) => {
    if (run.config.device === 'cuda') return [];
    const threads = threadsOf(run.config, host, run.workers);
    return [changed(run, { threads_per_slot: threads }, `threads_per_slot=${threads}`)];
  },
  accumulations,
  microBatches,
  (run) => {
    const { validation } = run.config;
    if (!validation.weights?.includes('ema') || validationEvery(run.config) === 0) {
      return [changed(run, { ema: null }, 'ema=null')];
    }
    const change: Partial<Config> = { ema: null, validation: { ...validation, weights: null } };
    return [changed(run, change, 'ema=null', 'validation.weights=null')];
  },
  (run) => {
    const precision = { ...run.config.precision, compute: 'bf16' as const };
    return [changed(run, { precision }, 'precision.compute=bf16')];
  },
];

/** Larger micro-batches are fewer, and so are the gradients that wait in the tree; smaller ones need less for activations. */
function microBatches(run: Run): Change[] {
  const { batch } = run.config;
  const { micro } = batch;
  const changes: Change[] = [];
  for (let other = micro / 1024; other <= micro * 1024; other *= 2) {
    if (other === micro || !Number.isInteger(other)) continue;
    changes.push(changed(run, { batch: { ...batch, micro: other } }, `batch.micro=${other}`));
  }
  return changes.filter(hasSlots);
}

/** Slots of more micro-batches are fewer, and so are the gradients that wait in the tree. */
function accumulations(run: Run): Change[] {
  const { batch } = run.config;
  const changes: Change[] = [];
  for (let more = 2 * batch.accumulate; more <= batch.global; more *= 2)
    changes.push(changed(run, { batch: { ...batch, accumulate: more } }, `batch.accumulate=${more}`));
  return changes.filter(hasSlots);
}

/** Whether the global batch has whole slots, one at least for every worker. */
function hasSlots({ config, workers }: Change): boolean {
  return Number.isInteger(slotCount(config)) && slotCount(config) >= workers;
}
