/**
 * Workers with a GPU each: gradients are summed from device to device, and do not come to the host's memory
 * (native/engine/device_exchange.h). Who takes part, and where they find each other, is agreed over gRPC.
 */

import type { Config } from '../../config/schema.js';
import { OrchestratorError } from '../../errors.js';
import type { Engine } from '../../native/contract.js';
import type { Form } from '../../rpc/proto.js';
import { type Collective, NoTransfer } from './collective.js';

/** How long workers that have all answered may take to connect their devices. */
const CONNECT_MS = 120_000;

const GPU = 'GPU-';

/** What the others must know of this worker's device, or why it can be connected to none; empty where nobody asks. */
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
 * Why the devices of these workers cannot be connected, or null where they can: every worker comes to the same answer.
 * @param offers of all ranks
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

/** Whether the workers connect their devices. `log` hears why not, where they might have. */
export function connectsDevices(
  { device, exchange }: Pick<Config, 'device' | 'exchange'>,
  offers: readonly string[],
  log: (note: string) => void,
): boolean {
  if (device !== 'cuda' || exchange === 'grpc' || offers.length === 1) return false;
  const problem = connectionProblem(offers);
  if (problem === null) return true;
  if (exchange === 'nccl') {
    throw new OrchestratorError('ERR_CUDA', `exchange: nccl cannot connect the GPUs. ${problem}`, {
      hint: 'exchange: auto takes gRPC where GPUs cannot be connected.',
    });
  }
  log(`exchange over gRPC, because GPUs cannot be connected: ${problem}`);
  return false;
}

/** Connects the devices of all workers. A network that lets nothing through is an error, not a hang. */
export async function connectDevices(engine: Engine, offers: readonly string[]): Promise<Collective> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(
        new OrchestratorError('ERR_CUDA', `The GPUs were not connected after ${CONNECT_MS / 1000} s`, {
          hint: 'NCCL_DEBUG=INFO tells what NCCL tries; NCCL_SOCKET_IFNAME names the network interface.',
        }),
      );
      engine.abandonDevices();
    }, CONNECT_MS);
  });
  try {
    await Promise.race([engine.connectDevices(offers[0]!), tooLate]);
    return new NoTransfer();
  } finally {
    clearTimeout(timer);
  }
}
