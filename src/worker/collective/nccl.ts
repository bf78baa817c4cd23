/**
 * All-reduce between workers with one GPU each, from device to device without the host's memory
 * (native/engine/device_exchange.h). Membership and rendezvous go over gRPC.
 */
import type { Config } from '../../config/schema.js';
import { OrchestratorError } from '../../errors.js';
import type { Engine } from '../../native/contract.js';
import type { Form } from '../../rpc/proto.js';
import { type Collective, NoTransfer } from './collective.js';

/** Time limit for connecting the devices, once all workers have answered. */
const CONNECT_MS = 120_000;

const GPU = 'GPU-';

/** What other workers need to connect to this worker's GPU, or why they cannot; '' if not used. */
export async function offerDevice(
  { device, exchange }: Pick<Config, 'device' | 'exchange'>,
  engine: Engine,
  { rank, members }: Form,
): Promise<string> {
  if (device !== 'cuda' || exchange === 'grpc' || members.length === 1) return '';
  const bounds = Float64Array.from(members.flatMap(({ firstSlot, endSlot }) => [firstSlot, endSlot]));
  return await engine.offerDevice(rank, bounds).catch((error: Error) => error.message);
}

/**
 * Why the GPUs of these workers cannot be connected, or null if they can. Every worker comes to the same
 * answer.
 *
 * @param offers The results of offerDevice of all ranks.
 */
export function connectionProblem(offers: readonly string[]): string | null {
  const off = offers.findIndex((offer) => !offer.startsWith(GPU));
  if (off >= 0) return `rank ${off}: ${offers[off]}`;
  const parts = offers.map((offer) => offer.split('/'));
  const first = (field: number) =>
    parts.map((part) => parts.findIndex((other) => other[field] === part[field]));
  const twin = first(0).findIndex((found, rank) => found !== rank);
  if (twin >= 0) return `ranks ${first(0)[twin]} and ${twin} share ${parts[twin]?.[0]}`;
  const stranger = first(1).findIndex((found) => found !== 0);
  if (stranger >= 0) return `rank 0 has ${parts[0]?.[1]}, rank ${stranger} has ${parts[stranger]?.[1]}`;
  return null;
}

/** Whether the workers connect their GPUs. `log` gets the reason if `exchange` allows it but they cannot. */
export function connectsDevices(
  { device, exchange }: Pick<Config, 'device' | 'exchange'>,
  offers: readonly string[],
  log: (note: string) => void,
): boolean {
  if (device !== 'cuda' || exchange === 'grpc' || offers.length === 1) return false;
  const problem = connectionProblem(offers);
  if (problem === null) return true;
  if (exchange === 'nccl') {
    throw new OrchestratorError(
      'ERR_CUDA',
      `exchange: nccl cannot connect the GPUs. ${problem}`,
      'exchange: auto uses gRPC when GPUs cannot be connected',
    );
  }
  log(`exchange over gRPC, because GPUs cannot be connected: ${problem}`);
  return false;
}

/**
 * Connects the GPUs of all workers.
 *
 * @throws OrchestratorError ERR_CUDA: when the time limit passes, for example because a firewall drops the
 *   traffic.
 */
export async function connectDevices(engine: Engine, offers: readonly string[]): Promise<Collective> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(
        new OrchestratorError(
          'ERR_CUDA',
          `The GPUs were not connected within ${CONNECT_MS / 1000} s`,
          'NCCL_DEBUG=INFO shows what NCCL tries; NCCL_SOCKET_IFNAME sets the network interface',
        ),
      );
      engine.abandonDevices();
    }, CONNECT_MS);
  });
  try {
    await Promise.race([engine.connectDevices(offers[0]!), timeout]);
    return new NoTransfer();
  } finally {
    clearTimeout(timer);
  }
}
