/** The worker process: join, form a generation, load the state, train, finish. */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT, type OrchestratorError } from '../errors.js';
import type { Group } from '../native/contract.js';
import { native } from '../native/load.js';
import { localAddress } from '../rpc/grpc-stream.js';
import { type Form, PROTOCOL } from '../rpc/proto.js';
import { onStopSignals, SIGNAL_EXIT } from '../signals.js';
import { type Collective, NoTransfer } from './collective/collective.js';
import { exchangeLayout } from './collective/exchange.js';
import { GrpcCollective, PeerServer } from './collective/grpc.js';
import { connectDevices, connectsDevices, offerDevice } from './collective/nccl.js';
import { offerSharedMemory, sharesMemory } from './collective/shared.js';
import { CoordinatorSession, Stopped } from './session.js';
import { buildSetup, joinGeneration, loadState, readiness, type WorkerSetup } from './setup.js';
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
 * Runs a worker until the coordinator ends the run, and returns the exit code.
 *
 * @throws OrchestratorError ERR_COORDINATOR_LOST, ERR_TOKEN, ERR_PROTOCOL: when there is no coordinator to
 *   report to.
 */
export async function runWorker(options: WorkerOptions): Promise<number> {
  const host = native().host();
  const peers = new PeerServer();
  const dataAddress = await peers.listen(localAddress());
  const group = offerSharedMemory();
  const session = new CoordinatorSession(options.coordinator);
  let abandonDevices = () => {};
  // A signal to a worker stops the whole run.
  onStopSignals((signal) => session.send({ stopRequest: { exitCode: SIGNAL_EXIT[signal] } }));
  try {
    const welcome = await session.join({
      token: options.token,
      protocol: PROTOCOL,
      workerId: options.workerId,
      host: hostname(),
      pid: process.pid,
      dataAddress,
      sharedMemory: group?.address ?? '',
      isa: host.isa,
    });
    return await Promise.race([session.over, work()]);

    async function work(): Promise<never> {
      const setup = await buildSetup(welcome);
      const { config, engine } = setup;
      abandonDevices = () => engine.abandonDevices();
      const form = await session.next('form');
      const isFirst = form.rank === 0;
      const shares = sharesMemory(config, form.members);
      let collective = shares
        ? await shareMemory(setup, group!, form)
        : await openCollective(setup, session, form, peers);
      session.send({ formed: { device: await offerDevice(config, engine, form) } });
      const { checkpoint, devices } = await session.next('sync');
      if (connectsDevices(config, devices, isFirst ? log : () => {})) {
        collective.close();
        collective = await connectDevices(engine, devices);
      }
      const step = await loadState(setup, checkpoint, { logs: isFirst, writesState: isFirst || !shares });
      await engine.stateLoaded();
      session.send({ ready: await readiness(setup, step) });
      const { firstStep } = await session.next('start');
      const generation = joinGeneration(setup, session, form, collective);
      const last = await train(generation, firstStep);
      await generation.saver.settled();
      session.send({ finished: { step: last } });
      return await session.over;
    }
  } catch (error) {
    if (error instanceof Stopped) return error.exitCode;
    return await report(session, error as Error);
  } finally {
    group?.abort();
    abandonDevices();
    session.close();
    peers.close();
  }
}

/** Prints a note; the launcher forwards it to the coordinator. */
function log(note: string): void {
  process.stderr.write(`${note}\n`);
}

async function openCollective(
  { engine, welcome }: WorkerSetup,
  session: CoordinatorSession,
  form: Form,
  server: PeerServer,
): Promise<Collective> {
  if (form.members.length === 1) return new NoTransfer();
  const slots = form.members.map(({ firstSlot, endSlot }) => ({ lo: firstSlot, hi: endSlot }));
  return await GrpcCollective.connect({
    layout: exchangeLayout(form.rank, slots, engine.layout().buckets, native().addInto),
    generation: session.generation,
    token: welcome.dataToken,
    server,
    addresses: form.members.map(({ dataAddress }) => dataAddress),
  });
}

/** Joins the group of this machine's workers. From then on they share one state, which rank 0 writes. */
async function shareMemory(
  { engine }: WorkerSetup,
  group: Group,
  { rank, members }: Form,
): Promise<Collective> {
  group.form(
    members.map(({ sharedMemory }) => sharedMemory),
    rank,
  );
  await engine.join(group);
  return new NoTransfer();
}

/** Reports an error to the coordinator, which prints it and ends the run. */
async function report(session: CoordinatorSession, error: Error): Promise<number> {
  const code = (error as OrchestratorError).code ?? 'ERR_INTERNAL';
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
