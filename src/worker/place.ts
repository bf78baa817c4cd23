/** A worker's part in one generation: it connects to its peers, gets the state, and trains. */
import type { CheckpointManifest } from '../checkpoint/manifest.js';
import { wantedExchange } from '../config/derived.js';
import { OrchestratorError } from '../errors.js';
import { faultOf } from '../fault.js';
import { faultPoint } from '../fault-points.js';
import type { Group } from '../native/contract.js';
import { native } from '../native/load.js';
import type { Link } from '../rpc/links.js';
import type { CoordinatorMessage, Formation } from '../rpc/proto.js';
import type { Certified } from '../security/identity.js';
import { type Collective, ExchangeBroken, engineCollective } from './collective/collective.js';
import { exchangeLayout } from './collective/exchange.js';
import { GrpcCollective } from './collective/grpc.js';
import { canConnectDevices, connectDevices, deviceRendezvous } from './collective/nccl.js';
import { reachMemory } from './collective/shared.js';
import { aborted } from './interruptions.js';
import type { Reachable } from './reachable.js';
import { receiveCheckpoint } from './served-state.js';
import type { CoordinatorSession } from './session.js';
import { checkManifest, loadState, readiness, type WorkerRun } from './setup.js';
import { receiveState, stateShare } from './state-transfer.js';
import { train } from './train-loop.js';

interface Connections extends Reachable {
  /** The worker's shared memory; null: there is none. */
  group: Group | null;
}

type Sync = NonNullable<CoordinatorMessage['sync']>;

/**
 * Takes part in a generation until everything is done that was ordered, or until the next one forms or a peer is
 * lost, which are told by errors. The engine is idle then.
 *
 * @param note Tells the user.
 */
export async function takePart(
  worker: WorkerRun,
  connections: Connections,
  form: Formation,
  note: (text: string) => void,
): Promise<void> {
  const { config, welcome, engine, session, held, saver } = worker;
  const { regrouped, generation } = session;
  const { group } = connections;
  const isFirst = form.rank === 0;
  const log = isFirst ? note : () => {};
  const isAlone = form.members.length === 1;
  // The exchange is the run's, however many of its workers are left.
  const wanted = wantedExchange(config, welcome.workers);
  regrouped.addEventListener('abort', () => group?.abort(), { once: true });
  let collective: Collective = engineCollective(engine, false);
  let hasState = () => {};
  const isLoaded = new Promise<void>((resolve) => {
    hasState = resolve;
  });
  const connect = async () => {
    if (!isAlone) collective = await connectPeers(worker, connections, form, isLoaded);
  };
  try {
    if (wanted !== 'shared') await connect();
    session.send({
      formed: {
        ...(wanted === 'nccl' ? { device: await deviceRendezvous(engine, form) } : {}),
        ...(wanted === 'shared' ? { sharing: { problem: reachMemory(group, form, generation) } } : {}),
        ...(held.step === null ? {} : { held: { step: held.step } }),
      },
    });
    faultPoint('formed', generation);
    const sync = await session.next('sync');
    if (sync.shared) {
      // A copy of the state for a checkpoint is of that after the last step.
      await saver.copied();
      held.isShared = true;
      const { step } = await engine.join(group!);
      collective = engineCollective(engine, true);
      if (step !== null) Object.assign(held, { step, ofRun: step });
      else if (isFirst) await takeState(worker, connections, collective, sync, log);
      else await load(worker, sync, false, log);
    } else {
      // A coordinator that has died may have begun to share memory, and the next one decided otherwise.
      if (held.isShared) {
        const message = 'This worker shares its state with others, and cannot have one of its own any more';
        throw new OrchestratorError('ERR_SHARED_MEMORY', message);
      }
      if (wanted === 'shared') await connect();
      await takeState(worker, connections, collective, sync, log);
      if (wanted === 'nccl' && !isAlone && canConnectDevices(config.exchange, sync.devices, log)) {
        collective.close();
        collective = await connectDevices(engine, sync.devices);
      }
    }
    hasState();
    faultPoint('synced', generation);
    await engine.stateLoaded(held.step!);
    session.send({ ready: await readiness(worker, held.step!) });
    const start = await session.next('start');
    held.ofRun = held.step;
    await train({ ...worker, form, collective }, start);
    session.send({ finished: {} });
  } catch (error) {
    await decision(session, error as Error);
    throw error;
  } finally {
    collective.close();
    // What is shared says itself of which step it is.
    if (collective.sharesState) held.step = null;
  }
}

/**
 * A broken exchange is no fault of this worker. The coordinator knows which peer is dead, or decides between those that
 * cannot reach each other; until then this worker's peers get what it has. Rejects when that is decided.
 */
async function decision(session: CoordinatorSession, error: Error): Promise<void> {
  const { code, message } = faultOf(error);
  if (code !== 'ERR_EXCHANGE' || session.regrouped.aborted) return;
  const rank = error instanceof ExchangeBroken ? (error.rank ?? -1) : -1;
  session.send({ suspect: { rank, why: message } });
  await aborted(session.regrouped);
}

/** @param isLoaded Resolves when this worker has its state. */
async function connectPeers(
  { config, engine, held, session }: WorkerRun,
  { addresses, own, peers }: Connections,
  form: Formation,
  isLoaded: Promise<void>,
): Promise<Collective> {
  const slots = form.members.map(({ firstSlot, endSlot }) => ({ lo: firstSlot, hi: endSlot }));
  return await GrpcCollective.connect({
    gradients: engine,
    layout: exchangeLayout(form.rank, slots, engine.layout().buckets, native().addInto),
    generation: session.generation,
    server: peers,
    links: form.members.map((member) => linkTo(member, addresses.machine, own)),
    state: async (step, share, shares) => {
      // A peer that cannot read the checkpoint gets what this worker reads from it.
      await Promise.race([isLoaded, aborted(session.regrouped)]);
      return held.step === step ? await stateShare(engine, config.ema !== null, share, shares) : null;
    },
    signal: session.regrouped,
  });
}

function linkTo(
  { id, machine, localAddress, dataAddress }: Formation['members'][number],
  here: string,
  own: Certified | null,
): Link {
  if (own === null || machine === here) return { address: localAddress, proof: null };
  const { run } = own.identity;
  return { address: dataAddress, proof: { own, expected: { run, role: 'worker', id } } };
}

/** Gets the state from where the coordinator says: it is here, in the memory of peers, or in a checkpoint. */
async function takeState(
  worker: WorkerRun,
  { coordinator }: Connections,
  collective: Collective,
  sync: Sync,
  log: (note: string) => void,
): Promise<void> {
  const { keep, holders, served } = sync;
  if (keep) return;
  const { config, engine, held, saver, session } = worker;
  await saver.copied();
  if (served) {
    Object.assign(held, { step: null, isUsed: true, ofRun: null });
    const from = { coordinator, signal: session.regrouped };
    const check = (manifest: CheckpointManifest) => checkManifest(worker, 'the checkpoint', manifest, log);
    await receiveCheckpoint(engine, config.ema !== null, served.step, from, check);
    held.step = served.step;
    return;
  }
  if (!holders || !(collective instanceof GrpcCollective)) return await load(worker, sync, true, log);
  Object.assign(held, { step: null, isUsed: true, ofRun: null });
  const received = receiveState(engine, config.ema !== null, holders, collective.pullShare);
  await Promise.race([received, aborted(session.regrouped)]);
  Object.assign(held, { step: holders.step, ofRun: holders.step });
}

/** @param writes Whether this worker writes the state; where it is shared, rank 0 does. */
async function load(
  worker: WorkerRun,
  { checkpoint = '', served }: Sync,
  writes: boolean,
  log: (note: string) => void,
): Promise<void> {
  const { held } = worker;
  const { isUsed } = held;
  Object.assign(held, { step: null, isUsed: true, ofRun: null });
  // Rank 0 gets it, and checks it.
  held.step = served ? served.step : await loadState(worker, checkpoint, writes, isUsed, log);
}
