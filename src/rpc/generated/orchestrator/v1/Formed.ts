// Original file: proto/cluster.proto

import type { DeviceRendezvous as _orchestrator_v1_DeviceRendezvous, DeviceRendezvous__Output as _orchestrator_v1_DeviceRendezvous__Output } from '../../orchestrator/v1/DeviceRendezvous.js';

/**
 * The worker has reached the data addresses of all its peers.
 */
export interface Formed {
  /**
   * absent where GPUs are not to be connected
   */
  'device'?: (_orchestrator_v1_DeviceRendezvous | null);
}

/**
 * The worker has reached the data addresses of all its peers.
 */
export interface Formed__Output {
  /**
   * absent where GPUs are not to be connected
   */
  'device': (_orchestrator_v1_DeviceRendezvous__Output | null);
}
