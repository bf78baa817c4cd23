/** A worker's part in one generation: it connects to its peers, gets the state, and trains. */
import { wantedExchange } from '../config/derived.js';
import type { Group } from '../native/contract.js';
import { native } from '../native/load.js';
import type { CoordinatorMessage, Form } from '../rpc/proto.js';
import { type Collective, engineCollective } from './collective/collective.js';
import { exchangeLayout } from './collective/exchange.js';
import { GrpcCollective, type PeerServer } from './collective/grpc.js';
import { canConnectDevices, connectDevices, deviceRendezvous } from './collective/nccl.js';
import { canShareMemory, shareMemory } from './collective/shared.js';
import { aborted } from './session.js';
import { loadState, readiness, type WorkerRun } from './setup.js';
import { receiveState, stateShare } from './state-transfer.js';
import { train } from './train-loop.js';

/** How a worker is reached by its peers. */
export interface Reachable {
  token: string;
  peers: PeerServer;
  /** Its shared memory; null: there is none. */
  group: Group | null;
}

/**
 * Takes part in a generation until everything is done that was ordered, or until the next one forms or a peer is
 * lost, which are told by errors. The engine is idle then.
 *
 * @param note Tells the user.
 */
export async function takePart(
  worker: WorkerRun,
  reachable: Reachable,
  form: Form,
  note: (text: string) => void,
): Promise<void> {
  const { config, engine, session, held } = worker;
  const isFirst = form.rank === 0;
  const log = isFirst ? note : () => {};
  const wanted = wantedExchange(config, form.members.length);
  let collective = await connect(worker, reachable, form, wanted);
  try {
    session.send({
      formed: {
        ...(wanted === 'nccl' ? { device: await deviceRendezvous(engine, form) } : {}),
        ...(held.step === null ? {} : { held: { step: held.step } }),
      },
    });
    const sync = await session.next('sync');
    if (wanted === 'nccl' && canConnectDevices(config.exchange, sync.devices, log)) {
      collective.close();
      collective = await connectDevices(engine, sync.devices);
    }
    await takeState(worker, collective, sync, isFirst || !collective.sharesState, log);
    await engine.stateLoaded(held.step!);
    session.send({ ready: await readiness(worker, held.step!) });
    await train({ ...worker, form, collective }, await session.next('start'));
    session.send({ finished: {} });
  } finally {
    collective.close();
  }
}

async function connect(
  { config, engine, held, session }: WorkerRun,
  { token, peers, group }: Reachable,
  form: Form,
  wanted: ReturnType<typeof wantedExchange>,
): Promise<Collective> {
  if (wanted === 'none') return engineCollective(engine, false);
  if (wanted === 'shared' && canShareMemory(config.exchange, form.members)) {
    return await shareMemory(engine, group!, form, session.generation);
  }
  const slots = form.members.map(({ firstSlot, endSlot }) => ({ lo: firstSlot, hi: endSlot }));
  return await GrpcCollective.connect({
    gradients: engine,
    layout: exchangeLayout(form.rank, slots, engine.layout().buckets, native().addInto),
    generation: session.generation,
    token,
    server: peers,
    addresses: form.members.map(({ dataAddress }) => dataAddress),
    state: (step, share, shares) =>
      held.step === step ? stateShare(engine, config.ema !== null, share, shares) : null,
    signal: session.regrouped,
  });
}

/** Gets the state from where the coordinator says: it is here, in the memory of peers, or in a checkpoint. */
async function takeState(
  worker: WorkerRun,
  collective: Collective,
  { keep, holders, checkpoint = '' }: NonNullable<CoordinatorMessage['sync']>,
  writesState: boolean,
  log: (note: string) => void,
): Promise<void> {
  if (keep) return;
  const { config, engine, held, saver, session } = worker;
  await saver.copied();
  held.step = null;
  const { isUsed } = held;
  held.isUsed = true;
  if (holders && collective instanceof GrpcCollective) {
    const received = receiveState(engine, config.ema !== null, holders, collective.pullShare);
    await Promise.race([received, aborted(session.regrouped)]);
    held.step = holders.step;
  } else {
    held.step = await loadState(worker, checkpoint, writesState, isUsed, log);
  }
}
