/**
 * All-reduce between workers with one GPU each, from device to device without the host's memory
 * (native/engine/device_exchange.h). Membership and rendezvous go over gRPC.
 */
import type { Config } from '../../config/schema.js';
import { OrchestratorError } from '../../errors.js';
import type { Engine } from '../../native/contract.js';
import type { DeviceRendezvous, Formation } from '../../rpc/proto.js';
import { type Collective, engineCollective } from './collective.js';
import { cannotConnect, sharedGpu } from './shared-gpu.js';

/** Time limit for connecting the devices, once all workers have answered. */
const CONNECT_MS = 120_000;

/** What other workers need to connect to this worker's GPU, or why they cannot. */
export async function deviceRendezvous(
  engine: Engine,
  { rank, members }: Formation,
): Promise<DeviceRendezvous> {
  const bounds = Float64Array.from(members.flatMap(({ firstSlot, endSlot }) => [firstSlot, endSlot]));
  try {
    const [gpu = '', library = '', uniqueId = ''] = (await engine.rendezvous(rank, bounds)).split('/');
    return { gpu, library, uniqueId, problem: '' };
  } catch (error) {
    return { gpu: '', library: '', uniqueId: '', problem: (error as Error).message };
  }
}

/**
 * Why the GPUs of these workers cannot be connected, or null if they can. Every worker comes to the same
 * answer.
 *
 * @param devices Of all workers, by rank.
 */
export function connectionProblem(devices: readonly DeviceRendezvous[]): string | null {
  const off = devices.findIndex(({ problem }) => problem !== '');
  if (off >= 0) return `rank ${off}: ${devices[off]!.problem}`;
  const shared = sharedGpu(devices.map(({ gpu }) => gpu));
  if (shared !== null) return shared;
  const libraries = devices.map(({ library }) => library);
  const stranger = libraries.findIndex((library) => library !== libraries[0]);
  if (stranger >= 0) return `rank 0 has ${libraries[0]}, rank ${stranger} has ${libraries[stranger]}`;
  return null;
}

/** Whether the workers connect their GPUs. `log` gets the reason if `exchange` allows it but they cannot. */
export function canConnectDevices(
  exchange: Config['exchange'],
  devices: readonly DeviceRendezvous[],
  log: (note: string) => void,
): boolean {
  const problem = connectionProblem(devices);
  if (problem === null) return true;
  if (exchange === 'nccl') throw cannotConnect(problem);
  log(`exchange over gRPC, because GPUs cannot be connected: ${problem}`);
  return false;
}

/**
 * Connects the GPUs of all workers. Fails when the time limit passes, for example because a firewall drops
 * the traffic.
 */
export async function connectDevices(
  engine: Engine,
  devices: readonly DeviceRendezvous[],
): Promise<Collective> {
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
      engine.abortDevices();
    }, CONNECT_MS);
  });
  try {
    await Promise.race([engine.connectDevices(devices[0]!.uniqueId), timeout]);
    return engineCollective(engine, false);
  } finally {
    clearTimeout(timer);
  }
}
