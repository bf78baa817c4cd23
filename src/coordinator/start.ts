/** How a coordinator begins: what its run is, where it starts from, and which workers may come back to it. */
import { join } from 'node:path';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { listCheckpoints } from '../checkpoint/retention.js';
import { planFault } from '../fault-points.js';
import { native } from '../native/load.js';
import { formerOf, mayHold, orphansOf } from '../run-folder/former.js';
import { readRecords } from '../run-folder/kept-records.js';
import { completion, describeData, resolveRun } from '../run-folder/resolve-run.js';
import { RunDir, recordedStep } from '../run-folder/run-dir.js';
import { localCredential, Secrets } from '../run-folder/secrets.js';
import { checkFewest, checkWorkers } from '../step/assignment.js';
import { type CoordinatorOptions, Run } from './run.js';
import { openRecorder } from './sinks.js';

/**
 * Starts a run's coordinator. Errors after the start are reported on the terminal and through `done`. Null, with
 * a message on the terminal, if no step is left.
 */
export async function startCoordinator(options: CoordinatorOptions): Promise<Run | null> {
  const { loaded, workers, minWorkers, runDir, again, allowDataChange = false } = options;
  checkWorkers(loaded.config, workers);
  checkFewest(workers, minWorkers);
  const dir = await RunDir.open(runDir);
  let secrets: Secrets | null = null;
  try {
    if (dir.lastGeneration === 0) planFault('coordinator', () => native().faults);
    const data = describeData(loaded);
    // The checkpoints in the folder are those of the coordinator before.
    const isOwn = again && (await listCheckpoints(join(runDir, CHECKPOINTS))).length > 0;
    const resume = isOwn ? 'auto' : options.resume;
    const othersHold = mayHold(dir.path);
    const elsewhere = options.network !== null && othersHold;
    const orphans = again || resume !== 'auto' ? [] : orphansOf(dir.path, elsewhere);
    const isAwaited = again || orphans.length > 0;
    // A run that has failed has removed its address.
    const hasDied = again || (orphans.length > 0 && localCredential(dir.path) !== null);
    const resolved = await resolveRun(loaded, data, data, {
      runDir,
      resume,
      allowDataChange,
      // Workers that have kept their state read none of it, and loading one verifies it, too. Of those of other
      // machines nobody knows whether they live.
      thorough: !again && orphans.every(({ process }) => process === null),
    });
    const complete = completion(resolved);
    if (complete !== null) {
      process.stdout.write(`${complete}\n`);
      // A coordinator that has died may have left its address.
      new Secrets(dir.path).close(false);
      dir.release();
      return null;
    }
    // Where the coordinator has died, its records are read quickly when it is known from which step the run goes on.
    const kept = isAwaited ? null : await readRecords(dir.path, recordedStep(resolved));
    secrets = new Secrets(dir.path);
    const { prometheusTargets, launcher } = options;
    const restarts = dir.coordinatorRestarts + (hasDied ? 1 : 0);
    const { recorder, progress } = await openRecorder(
      resolved,
      workers,
      dir,
      prometheusTargets,
      launcher,
      restarts,
    );
    const awaited = again ? null : orphans.map(({ id }) => id);
    const former = again || resume === 'auto' ? formerOf(dir.path, resolved.step, awaited) : null;
    const known = { ...resolved, rows: data.rows, data, kept, orphans, othersHold, hasDied };
    const run = new Run(options, known, former, dir, secrets, recorder, progress);
    await run.listen();
    return run;
  } catch (error) {
    secrets?.close(false);
    dir.release();
    throw error;
  }
}
