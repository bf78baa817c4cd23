/** What the user is told of a run that is asked to stop. */
import { named } from '../text/shortened.js';

/** So many workers are named that a run waits for. */
const NAMED_WORKERS = 3;

/** What a run does that is asked to stop. */
export function whatFollows(awaited: readonly string[], ms: number): string {
  if (awaited.length === 0) return 'finishing the step and writing a checkpoint';
  const who = named(awaited, NAMED_WORKERS);
  return `waiting up to ${Math.round(ms / 1000)} s for ${who} to come back: nobody else holds the steps after the last checkpoint`;
}

/** Only `--resume auto` takes the checkpoint that was written last; a path or `never` would not. */
export function howToResume(resume: string): string {
  return resume === 'auto'
    ? 'run the same command to resume'
    : `to resume, run the command with \`--resume auto\`, not \`--resume ${resume}\``;
}
