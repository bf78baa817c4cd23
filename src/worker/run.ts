/** The worker process: it joins, builds its engine, and takes part in one generation after another. */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, EXIT } from '../errors.js';
import { faultOf } from '../fault.js';
import { planFault, whenCut } from '../fault-points.js';
import { adoptIsa, offeredIsas } from '../native/isa.js';
import { native } from '../native/load.js';
import { PROTOCOL } from '../rpc/protocol.js';
import { localCredential, seesRunFolder } from '../run-folder/secrets.js';
import { onStopSignals, SIGNAL_EXIT } from '../signals.js';
import { build } from '../version.js';
import { offerSharedMemory } from './collective/shared.js';
import { Levelled, Stopped } from './interruptions.js';
import { takePart } from './place.js';
import { becomeReachable, type Connecting } from './reachable.js';
import { CheckpointSaver } from './saver.js';
import { CoordinatorSession } from './session.js';
import { buildSetup, describeArithmetic, type Held, type WorkerSetup } from './setup.js';
import { startWatchdog } from './watchdog.js';

/** Time for the coordinator to end the session of a worker that has failed. */
const REPORT_MS = 2_000;

interface WorkerOptions extends Connecting {
  /** How many workers of a run on a network share this machine; null: as many as the launcher has started. */
  localWorkers: number | null;
  /** Where this machine has the data set; null: where the configuration says. */
  data: string | null;
  /** Whether a person or another program has started it, not the run's launcher. */
  ownAccord: boolean;
}

/**
 * Runs a worker until the coordinator ends the run, and returns the exit code. Errors are reported to the
 * coordinator, and thrown only where there is none.
 */
export async function runWorker(options: WorkerOptions): Promise<number> {
  /** The launcher forwards notes to the coordinator. */
  const note = (text: string) => void process.stderr.write(`${text}\n`);
  const reachable = await becomeReachable(options, note);
  const { id, coordinator, own, peers, addresses } = reachable;
  const session = new CoordinatorSession(coordinator, {
    onWaiting: (reason) => note(`on standby: ${reason}; this worker takes part when one of them is free`),
    onReturn: () => peers.offers.remind(),
    onDeclined: (number) => peers.offers.decline(number),
    note,
    addressOf: ({ runDir }) => localCredential(runDir),
  });
  const group = offerSharedMemory();
  whenCut(() => peers.disconnect());
  try {
    const welcome = await session.join({
      protocol: PROTOCOL,
      build: build(),
      workerId: id,
      host: hostname(),
      pid: process.pid,
      ...addresses,
      sharedMemory: group?.address ?? '',
      ownAccord: options.ownAccord,
      ...offeredIsas(native()),
    });
    if (options.ownAccord) note(`worker ${id} has joined the run in ${welcome.runDir}`);
    peers.expect(welcome.workers);
    // The coordinator decides whether this worker or the whole run stops. Until now a signal ended this process.
    onStopSignals((signal) => session.leave(SIGNAL_EXIT[signal]));
    return await Promise.race([session.over, work()]);

    async function work(): Promise<never> {
      // Workers of other machines have processors of their own.
      const sharing = (own === null ? null : options.localWorkers) ?? welcome.workers;
      const withoutRunFolder = own !== null && !seesRunFolder(welcome.runDir, own.authority);
      const build = () => buildSetup(welcome, sharing, options.data);
      const { setup, form: first } = await buildUntilFormed(session, withoutRunFolder, build);
      startWatchdog();
      const saver = new CheckpointSaver(setup, session, withoutRunFolder ? peers.offers : null, note);
      const worker = { ...setup, session, saver };
      for (let form = first; ; form = await session.formation()) {
        if (session.generation === 1) planFault(id, () => native().faults);
        session.regrouped.addEventListener('abort', () => setup.engine.abortDevices(), { once: true });
        try {
          await takePart(worker, { ...reachable, group }, form, note);
        } catch (error) {
          if (!session.regrouped.aborted) throw error;
        }
      }
    }
  } catch (error) {
    if (error instanceof Stopped) return error.exitCode;
    return await report(session, error as Error, options.ownAccord);
  } finally {
    session.close();
    peers.close();
  }
}

/**
 * Builds with the instruction set of the run, and stands by until the first generation forms; again where workers join
 * before that which have less.
 */
async function buildUntilFormed(
  session: CoordinatorSession,
  withoutRunFolder: boolean,
  build: () => Promise<WorkerSetup>,
) {
  for (;;) {
    adoptIsa(native(), session.takeIsa() || null);
    const setup = await build();
    const held: Held = { step: null, isShared: false, isUsed: false, ofRun: null };
    const standing = { withoutRunFolder, arithmetic: await describeArithmetic(setup) };
    session.standBy(() => {
      const { ofRun, isShared } = held;
      return { ...standing, held: ofRun === null ? null : { step: ofRun }, shares: isShared };
    });
    try {
      return { setup: { ...setup, held }, form: await session.formation() };
    } catch (error) {
      if (!(error instanceof Levelled)) throw error;
      await setup.engine.close();
      setup.rows.close();
    }
  }
}

/** What the coordinator has told this worker: it is for this process to print. */
const TOLD: ReadonlySet<ErrorCode> = new Set(['ERR_PROTOCOL', 'ERR_WORKER_LOST']);

/**
 * Reports an error to the coordinator, which prints it, and ends this worker or the run.
 *
 * @param ownAccord Whether somebody has started this worker who may not see what the coordinator prints.
 */
async function report(session: CoordinatorSession, error: Error, ownAccord: boolean): Promise<number> {
  const { code } = faultOf(error);
  // Without a coordinator nobody else can tell the user.
  if (!session.present || TOLD.has(code)) throw error;
  session.fail(error);
  const ended = (end: unknown) => (end instanceof Stopped ? end.exitCode : EXIT.failed);
  const exitCode = await Promise.race([session.over, sleep(REPORT_MS, EXIT.failed)]).catch(ended);
  if (ownAccord) throw error;
  return exitCode;
}
