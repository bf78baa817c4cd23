// Original file: proto/cluster.proto

import type { DeviceRendezvous as _orchestrator_v1_DeviceRendezvous, DeviceRendezvous__Output as _orchestrator_v1_DeviceRendezvous__Output } from '../../orchestrator/v1/DeviceRendezvous.js';
import type { Held as _orchestrator_v1_Held, Held__Output as _orchestrator_v1_Held__Output } from '../../orchestrator/v1/Held.js';
import type { Sharing as _orchestrator_v1_Sharing, Sharing__Output as _orchestrator_v1_Sharing__Output } from '../../orchestrator/v1/Sharing.js';

/**
 * The worker has left the generation before, if it was in one, and has reached its peers: their data addresses,
 * or their memory where that is to be shared.
 */
export interface Formed {
  /**
   * absent where GPUs are not to be connected
   */
  'device'?: (_orchestrator_v1_DeviceRendezvous | null);
  /**
   * absent: it holds no state of its own
   */
  'held'?: (_orchestrator_v1_Held | null);
  /**
   * absent where memory is not to be shared
   */
  'sharing'?: (_orchestrator_v1_Sharing | null);
}

/**
 * The worker has left the generation before, if it was in one, and has reached its peers: their data addresses,
 * or their memory where that is to be shared.
 */
export interface Formed__Output {
  /**
   * absent where GPUs are not to be connected
   */
  'device': (_orchestrator_v1_DeviceRendezvous__Output | null);
  /**
   * absent: it holds no state of its own
   */
  'held': (_orchestrator_v1_Held__Output | null);
  /**
   * absent where memory is not to be shared
   */
  'sharing': (_orchestrator_v1_Sharing__Output | null);
}
