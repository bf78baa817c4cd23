/** The hint for missing memory: options of the command line that save some. */
import { gib } from '../memory/fit.js';
import { totalBytes } from '../memory/parts.js';
import type { HostInfo } from '../native/contract.js';
import type { Estimate } from '../planning/estimate.js';
import { findSavings, type Run } from '../planning/savings.js';
import { alignedRows } from '../text/columns.js';
import { shellText } from '../text/shell.js';

/** Changes that save less than this share of the missing memory are not listed. */
const WORTH = 0.01;

/**
 * A hint with the options that save memory, each alone and together.
 *
 * @param reestimate Estimates a changed run.
 * @param measure The bytes of an estimate in the place where memory is short.
 * @param has The bytes that this place has.
 * @param isResumed Whether only what a run may change that is resumed is of use.
 */
export function savingsHint(
  run: Run,
  host: HostInfo,
  reestimate: (run: Run) => Estimate,
  measure: (figures: Estimate) => number,
  has: number,
  isResumed: boolean,
): string {
  const bytesOf = (other: Run) => measure(reestimate(other));
  const { each, together } = findSavings(run, host, bytesOf, WORTH * (bytesOf(run) - has), isResumed);
  const rows = each.map(({ words, bytes }) => [`  ${shellText(words)}`, gib(bytes)]);
  const enough =
    together.bytes > has ? `${gib(together.bytes - has, Math.ceil)} are still missing` : 'which fits';
  return [
    ...(together.words.length === 0
      ? [isResumed ? 'nothing that may change saves much of it' : 'only keys of the model save much of it']
      : [
          'what each of these options saves by itself:',
          ...alignedRows(rows),
          `  ${shellText(together.words)} together need ${gib(together.bytes)}, ${enough}`,
        ]),
    ...(run.config.device === 'cuda' ? [] : [onGpus(run, reestimate)]),
    isResumed
      ? '  --memory SIZE compares with another machine'
      : '  a smaller model.depth or model.hidden needs less of everything; --memory SIZE compares with another machine',
  ].join('\n');
}

function onGpus({ config, workers }: Run, reestimate: (run: Run) => Estimate): string {
  const exchange = config.exchange === 'shared' ? 'auto' : config.exchange;
  const { rankGpu, machine } = reestimate({
    config: { ...config, device: 'cuda', threads_per_slot: null, exchange },
    workers,
  });
  const most = Math.max(...(rankGpu ?? []).map(totalBytes));
  const gpu = workers === 1 ? 'of a GPU' : 'of a GPU for each worker';
  return `  ${shellText(['--set', 'device=cuda'])} takes ${gib(most)} ${gpu}, and ${gib(totalBytes(machine))} of the machine`;
}
