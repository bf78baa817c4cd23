/** The watchdog of a worker's process: it ends one that hangs, which the launcher then starts again. */
import { EXIT } from '../errors.js';
import { native } from '../native/load.js';

/**
 * A kernel, a copy of the state or the event loop hangs if it has stood for this long, and for this multiple of the
 * longest time that it stood before. Everything that a worker does in one piece takes seconds at most, also with the
 * largest models.
 */
const PATIENCE = { leastMs: 30_000, times: 30 };
/** While the event loop gets on, it says so this often. */
const BEAT_MS = 250;

/**
 * Starts it. The event loop may stand as long as the engine is being built, so that comes before.
 *
 * @param given LEAST_MS:TIMES, for tests: another patience.
 */
export function startWatchdog(given = process.env.ORCHESTRATOR_WATCHDOG): void {
  const [, leastMs, times] = /^([1-9]\d{0,8}):([1-9]\d{0,5})$/.exec(given ?? '') ?? [];
  const patience = leastMs === undefined ? PATIENCE : { leastMs: Number(leastMs), times: Number(times) };
  native().startWatchdog({ ...patience, exitCode: EXIT.hung });
  // Not a session's heartbeat: a worker without a session gets on, too.
  setInterval(() => native().beat(), BEAT_MS).unref();
}
