/** What is due with the state as it is after a step. */
import type { Orders } from '../rpc/proto.js';
import type { Settings } from './events.js';

/** What is not ordered again when a generation continues after a step. */
interface Done {
  /** The last step whose validation is over. */
  validated: number;
  /** The last step of which there is a checkpoint. */
  published: number;
  /** The last step whose checkpoint was given up. */
  missed: number;
  /** Whether the checkpoint of the step is being written. */
  writing: boolean;
}

/** @param stopping The run was asked to stop, and may have seconds left. */
export function ordersAfter(step: number, stopping: boolean, done: Done, settings: Settings): Orders {
  const { steps, checkpointEvery, validateEvery } = settings;
  const due = (every: number) => every > 0 && step % every === 0;
  const last = step === steps;
  const stop = last || stopping;
  const saves = stop || (due(checkpointEvery) && step > done.missed);
  return {
    step,
    validate: validateEvery > 0 && (last || due(validateEvery)) && !stopping && step > done.validated,
    checkpoint: saves && step > done.published && !done.writing,
    stop,
  };
}
