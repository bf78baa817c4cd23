/** Runs jobs side by side on the cores of a machine. */

interface Job {
  /** @param threads cores that it may use. */
  run(threads: number): Promise<void>;
}

interface Running {
  threads: number;
  done: Promise<void>;
}

/**
 * Starts jobs in their order, as long as there are cores for one more. While many wait, each gets the least
 * number of threads, which wastes the fewest; the last ones share what is free.
 *
 * @param least threads that a job needs.
 * @param most jobs side by side; null = as many as fit.
 * @param stopped whether no further job is to be started.
 */
export async function runJobs(
  jobs: readonly Job[],
  { cores, least, most }: { cores: number; least: number; most: number | null },
  stopped: () => boolean,
): Promise<void> {
  const running = new Set<Running>();
  for (const [i, job] of jobs.entries()) {
    const free = () => cores - [...running].reduce((sum, { threads }) => sum + threads, 0);
    while (running.size > 0 && (free() < least || running.size === most)) {
      await Promise.race([...running].map(({ done }) => done));
    }
    if (stopped()) break;
    const fitting = Math.max(1, Math.floor(free() / least));
    const allowed = most === null ? fitting : most - running.size;
    const places = Math.min(jobs.length - i, fitting, allowed);
    const one: Running = { threads: Math.max(least, Math.floor(free() / places)), done: Promise.resolve() };
    one.done = job.run(one.threads).finally(() => running.delete(one));
    running.add(one);
  }
  await Promise.all([...running].map(({ done }) => done));
}

/**
 * Seconds until all jobs are done at the pace so far: null before anything is known.
 *
 * @param seconds since the start.
 * @param before work that was done before the start, in jobs.
 * @param done work that is done, in jobs and their parts.
 */
export function remainingSeconds(
  seconds: number,
  before: number,
  done: number,
  total: number,
): number | null {
  const since = done - before;
  return since <= 0 ? null : (seconds / since) * (total - done);
}
