/** A worker's process: join, form, load, train, finish. */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT, type OrchestratorError } from '../errors.js';
import type { Group } from '../native/contract.js';
import { native } from '../native/load.js';
import { localAddress } from '../rpc/grpc-stream.js';
import { type Form, PROTOCOL } from '../rpc/proto.js';
import { type Collective, InPlace } from './collective/collective.js';
import { planExchange } from './collective/exchange.js';
import { GrpcCollective, PeerServer } from './collective/grpc.js';
import { connectDevices, connectsDevices, offerDevice } from './collective/nccl.js';
import { offerSharedMemory, sharesMemory } from './collective/shared.js';
import { CoordinatorSession, Stopped } from './session.js';
import { train } from './train-loop.js';
import { buildWorkshop, joinGeneration, loadState, readiness, type Workshop } from './trainer.js';

/** How long a worker whose peer vanished waits for the coordinator to say who died. */
const VERDICT_MS = 2_000;

export interface WorkerOptions {
  /** host:port of the coordinator. */
  coordinator: string;
  token: string;
  workerId: string;
}

/**
 * Runs a worker until the coordinator ends the run, and returns the exit code.
 *
 * @throws OrchestratorError ERR_COORDINATOR_LOST, ERR_TOKEN, ERR_PROTOCOL: when there is no coordinator to report to.
 */
export async function runWorker(options: WorkerOptions): Promise<number> {
  const host = native().host();
  const peers = new PeerServer();
  const dataAddress = await peers.listen(localAddress());
  const group = offerSharedMemory();
  const session = new CoordinatorSession(options.coordinator);
  let abandonDevices = () => {};
  stopOnSignals(session);
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
      const workshop = await buildWorkshop(welcome);
      const { config, engine } = workshop;
      abandonDevices = () => engine.abandonDevices();
      const form = await session.next('form');
      const leads = form.rank === 0;
      const shares = sharesMemory(config, form.members);
      let collective = shares
        ? await shareMemory(workshop, group!, form)
        : await openCollective(workshop, session, form, peers);
      session.send({ formed: { device: await offerDevice(config, engine, form) } });
      const { checkpoint, devices } = await session.next('sync');
      if (connectsDevices(config, devices, leads ? tell : () => {})) {
        collective.close();
        collective = await connectDevices(engine, devices);
      }
      const step = await loadState(workshop, checkpoint, { tells: leads, fills: leads || !shares });
      await engine.stateLoaded();
      session.send({ ready: await readiness(workshop, step) });
      const { firstStep } = await session.next('start');
      const trainer = joinGeneration(workshop, session, form, collective);
      const last = await train(trainer, firstStep);
      await trainer.saver.settled();
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

function tell(note: string): void {
  process.stderr.write(`${note}\n`);
}

async function openCollective(
  { engine, welcome }: Workshop,
  session: CoordinatorSession,
  form: Form,
  server: PeerServer,
): Promise<Collective> {
  if (form.members.length === 1) return new InPlace();
  const slots = form.members.map(({ firstSlot, endSlot }) => ({ lo: firstSlot, hi: endSlot }));
  return await GrpcCollective.connect({
    plan: planExchange(form.rank, slots, engine.layout().buckets, native().addInto),
    generation: session.generation,
    token: welcome.dataToken,
    server,
    addresses: form.members.map(({ dataAddress }) => dataAddress),
  });
}

/** Joins the workers of this machine. Their state is one from then on, and rank 0 fills it. */
async function shareMemory({ engine }: Workshop, group: Group, { rank, members }: Form): Promise<Collective> {
  group.form(
    members.map(({ sharedMemory }) => sharedMemory),
    rank,
  );
  await engine.join(group);
  return new InPlace();
}

/** Tells the coordinator what went wrong; it prints it and ends the run. */
async function report(session: CoordinatorSession, error: Error): Promise<number> {
  const code = (error as OrchestratorError).code ?? 'ERR_INTERNAL';
  if (code === 'ERR_COORDINATOR_LOST' || code === 'ERR_TOKEN' || code === 'ERR_PROTOCOL') throw error;
  try {
    // A broken exchange is most often the death of the peer, which the coordinator names better.
    if (code === 'ERR_EXCHANGE') await Promise.race([session.over, sleep(VERDICT_MS)]);
    session.fail(error);
    return await Promise.race([session.over, sleep(VERDICT_MS, EXIT.failed)]);
  } catch (verdict) {
    return verdict instanceof Stopped ? verdict.exitCode : EXIT.failed;
  }
}

/** SIGTERM and SIGINT to a worker mean the run: it asks for an orderly stop. The second one ends it at once. */
function stopOnSignals(session: CoordinatorSession): void {
  const codes = { SIGINT: EXIT.interrupted, SIGTERM: EXIT.preempted } as const;
  let asked = false;
  for (const [signal, exitCode] of Object.entries(codes)) {
    process.on(signal, () => {
      if (asked) process.exit(exitCode);
      asked = true;
      session.send({ stopRequest: { exitCode } });
    });
  }
}
