/** The worker process: it joins, builds its engine, and takes part in one generation after another. */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { seesRunFolder } from '../coordinator/secrets.js';
import { EXIT } from '../errors.js';
import { faultOf } from '../fault.js';
import { adoptIsa } from '../native/isa.js';
import { native } from '../native/load.js';
import { PROTOCOL } from '../rpc/proto.js';
import { onStopSignals, SIGNAL_EXIT } from '../signals.js';
import { offerSharedMemory } from './collective/shared.js';
import { planFault } from './fault-points.js';
import { takePart } from './place.js';
import { becomeReachable, type Connecting } from './reachable.js';
import { CheckpointSaver } from './saver.js';
import { aborted, CoordinatorSession, Stopped } from './session.js';
import { buildSetup, describeArithmetic } from './setup.js';
import { startWatchdog } from './watchdog.js';

/**
 * A broken exchange usually means that a peer was lost. The coordinator knows it at once, or when that peer has
 * been silent for too long (rule.ts), and either ends the run or forms the next generation.
 */
const PEER_LOST_MS = 5_000;
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
  planFault(options.workerId);
  /** The launcher forwards notes to the coordinator. */
  const note = (text: string) => void process.stderr.write(`${text}\n`);
  const reachable = await becomeReachable(options, note);
  const { id, coordinator, own, peers, addresses } = reachable;
  const session = new CoordinatorSession(coordinator, (reason) => {
    note(`on standby: ${reason}; this worker takes part when one of them is free`);
  });
  const group = offerSharedMemory();
  try {
    const welcome = await session.join({
      protocol: PROTOCOL,
      workerId: id,
      host: hostname(),
      pid: process.pid,
      ...addresses,
      sharedMemory: group?.address ?? '',
      ownAccord: options.ownAccord,
    });
    if (options.ownAccord) note(`worker ${id} has joined the run in ${welcome.runDir}`);
    peers.expect(welcome.workers);
    // The coordinator decides whether this worker or the whole run stops. Until now a signal ended this process.
    onStopSignals((signal) => session.send({ leave: { exitCode: SIGNAL_EXIT[signal] } }));
    return await Promise.race([session.over, work()]);

    async function work(): Promise<never> {
      // Workers of other machines have processors of their own.
      const sharing = (own === null ? null : options.localWorkers) ?? welcome.workers;
      adoptIsa(native(), welcome.isa || null);
      const setup = await buildSetup(welcome, sharing, options.data);
      startWatchdog();
      const saver = new CheckpointSaver(setup, session);
      const worker = { ...setup, session, saver, held: { step: null, isUsed: false } };
      const withoutRunFolder = own !== null && !seesRunFolder(welcome.runDir, own.authority);
      const arithmetic = await describeArithmetic(setup);
      const instructionSets = setup.gpu === null ? native().instructionSets() : [];
      session.send({ standby: { withoutRunFolder, arithmetic, instructionSets } });
      for (;;) {
        const form = await session.formation();
        session.regrouped.addEventListener('abort', () => setup.engine.abortDevices(), { once: true });
        try {
          await takePart(worker, { ...reachable, group }, form, note);
        } catch (error) {
          await regroupedAfter(error as Error, session);
        }
      }
    }
  } catch (error) {
    if (error instanceof Stopped) return error.exitCode;
    return await report(session, error as Error);
  } finally {
    session.close();
    peers.close();
  }
}

/** Resolves if the next generation forms, and so the error is none. A peer that was lost is known in moments. */
async function regroupedAfter(error: Error, session: CoordinatorSession): Promise<void> {
  const { regrouped, over } = session;
  if (!regrouped.aborted && faultOf(error).code === 'ERR_EXCHANGE') {
    await Promise.race([over, aborted(regrouped).catch(() => {}), sleep(PEER_LOST_MS, null, { ref: false })]);
  }
  if (!regrouped.aborted) throw error;
}

/** Reports an error to the coordinator, which prints it. Where an exchange broke, others may go on. */
async function report(session: CoordinatorSession, error: Error): Promise<number> {
  const { code } = faultOf(error);
  if (code === 'ERR_COORDINATOR_LOST' || code === 'ERR_TOKEN' || code === 'ERR_PROTOCOL') throw error;
  try {
    session.fail(error, code !== 'ERR_EXCHANGE');
    return await Promise.race([session.over, sleep(REPORT_MS, EXIT.failed)]);
  } catch (end) {
    return end instanceof Stopped ? end.exitCode : EXIT.failed;
  }
}
