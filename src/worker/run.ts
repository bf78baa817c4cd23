/** The worker process: it joins, builds its engine, and takes part in one generation after another. */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT } from '../errors.js';
import { faultOf } from '../fault.js';
import { PROTOCOL } from '../rpc/proto.js';
import { localAddress } from '../rpc/transport.js';
import { onStopSignals, SIGNAL_EXIT } from '../signals.js';
import { PeerServer } from './collective/grpc.js';
import { offerSharedMemory } from './collective/shared.js';
import { planFault } from './fault-points.js';
import { takePart } from './place.js';
import { CheckpointSaver } from './saver.js';
import { aborted, CoordinatorSession, Stopped } from './session.js';
import { buildSetup } from './setup.js';

/**
 * A broken exchange usually means that a peer was lost. The coordinator knows it at once, or when that peer has
 * been silent for too long (rule.ts), and either ends the run or forms the next generation.
 */
const PEER_LOST_MS = 5_000;
/** Time for the coordinator to end the session of a worker that has failed. */
const REPORT_MS = 2_000;

interface WorkerOptions {
  /** host:port of the coordinator. */
  coordinator: string;
  token: string;
  workerId: string;
}

/**
 * Runs a worker until the coordinator ends the run, and returns the exit code. Errors are reported to the
 * coordinator, and thrown only where there is none.
 */
export async function runWorker(options: WorkerOptions): Promise<number> {
  const { token } = options;
  planFault(options.workerId);
  /** The launcher forwards notes to the coordinator. */
  const note = (text: string) => void process.stderr.write(`${text}\n`);
  // The session comes first: if its address is refused, no server may listen yet and keep this process alive.
  const session = new CoordinatorSession(options.coordinator, token);
  const peers = new PeerServer(token, (message) => note(`warn refused ${message}`));
  const dataAddress = await peers.listen(localAddress());
  const group = offerSharedMemory();
  try {
    const welcome = await session.join({
      protocol: PROTOCOL,
      workerId: options.workerId,
      host: hostname(),
      pid: process.pid,
      dataAddress,
      sharedMemory: group?.address ?? '',
    });
    peers.expect(welcome.workers);
    // The coordinator decides whether this worker or the whole run stops. Until now a signal ended this process.
    onStopSignals((signal) => session.send({ leave: { exitCode: SIGNAL_EXIT[signal] } }));
    return await Promise.race([session.over, work()]);

    async function work(): Promise<never> {
      const setup = await buildSetup(welcome);
      const saver = new CheckpointSaver(setup, session);
      const worker = { ...setup, session, saver, held: { step: null, isUsed: false } };
      session.send({ standby: {} });
      for (;;) {
        const form = await session.formation();
        session.regrouped.addEventListener('abort', () => setup.engine.abortDevices(), { once: true });
        try {
          await takePart(worker, { token, peers, group }, form, note);
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
