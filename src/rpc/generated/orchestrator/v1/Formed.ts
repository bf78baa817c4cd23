// Original file: proto/cluster.proto

import type { DeviceRendezvous as _orchestrator_v1_DeviceRendezvous, DeviceRendezvous__Output as _orchestrator_v1_DeviceRendezvous__Output } from '../../orchestrator/v1/DeviceRendezvous.js';
import type { Held as _orchestrator_v1_Held, Held__Output as _orchestrator_v1_Held__Output } from '../../orchestrator/v1/Held.js';

/**
 * The worker has left the generation before, if it was in one, and has reached the data addresses of all its
 * peers.
 */
export interface Formed {
  /**
   * absent where GPUs are not to be connected
   */
  'device'?: (_orchestrator_v1_DeviceRendezvous | null);
  /**
   * absent: it holds no state
   */
  'held'?: (_orchestrator_v1_Held | null);
}

/**
 * The worker has left the generation before, if it was in one, and has reached the data addresses of all its
 * peers.
 */
export interface Formed__Output {
  /**
   * absent where GPUs are not to be connected
   */
  'device': (_orchestrator_v1_DeviceRendezvous__Output | null);
  /**
   * absent: it holds no state
   */
  'held': (_orchestrator_v1_Held__Output | null);
}
