// Original file: proto/cluster.proto

import type { DeviceRendezvous as _orchestrator_v1_DeviceRendezvous, DeviceRendezvous__Output as _orchestrator_v1_DeviceRendezvous__Output } from '../../orchestrator/v1/DeviceRendezvous.js';

/**
 * The source of the state.
 */
export interface Sync {
  /**
   * its folder; empty: initialise
   */
  'checkpoint'?: (string);
  /**
   * Formed.device of every worker, by rank
   */
  'devices'?: (_orchestrator_v1_DeviceRendezvous)[];
}

/**
 * The source of the state.
 */
export interface Sync__Output {
  /**
   * its folder; empty: initialise
   */
  'checkpoint': (string);
  /**
   * Formed.device of every worker, by rank
   */
  'devices': (_orchestrator_v1_DeviceRendezvous__Output)[];
}
