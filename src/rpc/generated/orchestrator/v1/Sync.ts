// Original file: proto/cluster.proto

import type { DeviceRendezvous as _orchestrator_v1_DeviceRendezvous, DeviceRendezvous__Output as _orchestrator_v1_DeviceRendezvous__Output } from '../../orchestrator/v1/DeviceRendezvous.js';
import type { Initialise as _orchestrator_v1_Initialise, Initialise__Output as _orchestrator_v1_Initialise__Output } from '../../orchestrator/v1/Initialise.js';
import type { Keep as _orchestrator_v1_Keep, Keep__Output as _orchestrator_v1_Keep__Output } from '../../orchestrator/v1/Keep.js';
import type { Holders as _orchestrator_v1_Holders, Holders__Output as _orchestrator_v1_Holders__Output } from '../../orchestrator/v1/Holders.js';
import type { Served as _orchestrator_v1_Served, Served__Output as _orchestrator_v1_Served__Output } from '../../orchestrator/v1/Served.js';

/**
 * The source of the state for the receiver.
 */
export interface Sync {
  /**
   * its folder
   */
  'checkpoint'?: (string);
  /**
   * Formed.device of every worker, by rank
   */
  'devices'?: (_orchestrator_v1_DeviceRendezvous)[];
  'initialise'?: (_orchestrator_v1_Initialise | null);
  'keep'?: (_orchestrator_v1_Keep | null);
  'holders'?: (_orchestrator_v1_Holders | null);
  /**
   * All members share one state. Where one of them has it in its memory, that counts; otherwise rank 0 loads it
   * from the source.
   */
  'shared'?: (boolean);
  'served'?: (_orchestrator_v1_Served | null);
  'source'?: "initialise"|"checkpoint"|"keep"|"holders"|"served";
}

/**
 * The source of the state for the receiver.
 */
export interface Sync__Output {
  /**
   * its folder
   */
  'checkpoint'?: (string);
  /**
   * Formed.device of every worker, by rank
   */
  'devices': (_orchestrator_v1_DeviceRendezvous__Output)[];
  'initialise'?: (_orchestrator_v1_Initialise__Output | null);
  'keep'?: (_orchestrator_v1_Keep__Output | null);
  'holders'?: (_orchestrator_v1_Holders__Output | null);
  /**
   * All members share one state. Where one of them has it in its memory, that counts; otherwise rank 0 loads it
   * from the source.
   */
  'shared': (boolean);
  'served'?: (_orchestrator_v1_Served__Output | null);
  'source'?: "initialise"|"checkpoint"|"keep"|"holders"|"served";
}
