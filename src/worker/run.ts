/** The worker process: join, form a generation, load the state, train, finish. */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { wantedExchange } from '../config/derived.js';
import { EXIT } from '../errors.js';
import { faultOf } from '../fault.js';
import { native } from '../native/load.js';
import { type Form, PROTOCOL } from '../rpc/proto.js';
import { localAddress } from '../rpc/transport.js';
import { onStopSignals, SIGNAL_EXIT } from '../signals.js';
import { type Collective, engineCollective } from './collective/collective.js';
import { exchangeLayout } from './collective/exchange.js';
import { GrpcCollective, PeerServer } from './collective/grpc.js';
import { canConnectDevices, connectDevices, deviceRendezvous } from './collective/nccl.js';
import { canShareMemory, offerSharedMemory, shareMemory } from './collective/shared.js';
import { CoordinatorSession, Stopped } from './session.js';
import { buildSetup, loadState, readiness, type WorkerSetup } from './setup.js';
import { train } from './train-loop.js';

/** After losing a peer, a worker waits this long for the coordinator to report which one failed. */
const PEER_FAILURE_GRACE_MS = 2_000;

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
  /** The launcher forwards notes to the coordinator. */
  const note = (text: string) => void process.stderr.write(`${text}\n`);
  // The session comes first: if its address is refused, no server may listen yet and keep this process alive.
  const session = new CoordinatorSession(options.coordinator, token);
  const peers = new PeerServer(token, (message) => note(`warn refused ${message}`));
  const dataAddress = await peers.listen(localAddress());
  const group = offerSharedMemory();
  let abortDevices = () => {};
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
      const { config, engine } = setup;
      abortDevices = () => engine.abortDevices();
      session.send({ standby: {} });
      const form = await session.next('form');
      const isFirst = form.rank === 0;
      const log = isFirst ? note : () => {};
      const wanted = wantedExchange(config, form.members.length);
      const shares = wanted === 'shared' && canShareMemory(config.exchange, form.members);
      let collective: Collective = shares
        ? await shareMemory(engine, group!, form)
        : wanted === 'none'
          ? engineCollective(engine, false)
          : await connectPeers(setup, session, form, peers, token);
      session.send({ formed: wanted === 'nccl' ? { device: await deviceRendezvous(engine, form) } : {} });
      const { checkpoint = '', devices } = await session.next('sync');
      if (wanted === 'nccl' && canConnectDevices(config.exchange, devices, log)) {
        collective.close();
        collective = await connectDevices(engine, devices);
      }
      const writesState = isFirst || !collective.sharesState;
      const step = await loadState(setup, checkpoint, writesState, log);
      await engine.stateLoaded();
      session.send({ ready: await readiness(setup, step) });
      const orders = await session.next('start');
      await train({ ...setup, session, form, collective }, orders);
      session.send({ finished: {} });
      return await session.over;
    }
  } catch (error) {
    if (error instanceof Stopped) return error.exitCode;
    return await report(session, error as Error);
  } finally {
    group?.abort();
    abortDevices();
    session.close();
    peers.close();
  }
}

function connectPeers(
  { engine }: WorkerSetup,
  session: CoordinatorSession,
  form: Form,
  server: PeerServer,
  token: string,
): Promise<GrpcCollective> {
  const slots = form.members.map(({ firstSlot, endSlot }) => ({ lo: firstSlot, hi: endSlot }));
  return GrpcCollective.connect({
    gradients: engine,
    layout: exchangeLayout(form.rank, slots, engine.layout().buckets, native().addInto),
    generation: session.generation,
    token,
    server,
    addresses: form.members.map(({ dataAddress }) => dataAddress),
  });
}

/** Reports an error to the coordinator, which prints it and ends the run. */
async function report(session: CoordinatorSession, error: Error): Promise<number> {
  const { code } = faultOf(error);
  if (code === 'ERR_COORDINATOR_LOST' || code === 'ERR_TOKEN' || code === 'ERR_PROTOCOL') throw error;
  try {
    // A broken exchange usually means that a peer died, and the coordinator reports that better.
    if (code === 'ERR_EXCHANGE') await Promise.race([session.over, sleep(PEER_FAILURE_GRACE_MS)]);
    session.fail(error);
    return await Promise.race([session.over, sleep(PEER_FAILURE_GRACE_MS, EXIT.failed)]);
  } catch (end) {
    return end instanceof Stopped ? end.exitCode : EXIT.failed;
  }
}
