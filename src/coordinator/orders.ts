/** What is due with the state as it is after a step. */
import type { Settings } from './events.js';

export interface Orders {
  validate: boolean;
  /** Compare the workers' state, and write it. */
  checkpoint: boolean;
  /** No step follows. */
  stop: boolean;
}

/** @param stopping The run was asked to stop, and may have seconds left. */
export function ordersAfter(step: number, stopping: boolean, settings: Settings): Orders {
  const { steps, checkpointEvery, validateEvery } = settings;
  const due = (every: number) => every > 0 && step % every === 0;
  const last = step === steps;
  const stop = last || stopping;
  return {
    validate: validateEvery > 0 && (last || due(validateEvery)) && !stopping,
    checkpoint: stop || due(checkpointEvery),
    stop,
  };
}
