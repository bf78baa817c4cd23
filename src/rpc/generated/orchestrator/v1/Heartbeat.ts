// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

// Original file: proto/cluster.proto

export const _orchestrator_v1_Heartbeat_Stage = {
  IDLE: 'IDLE',
  COMPUTE: 'COMPUTE',
  EXCHANGE: 'EXCHANGE',
  UPDATE: 'UPDATE',
  /**
   * for other workers
   */
  WAIT: 'WAIT',
} as const;

export type _orchestrator_v1_Heartbeat_Stage =
  | 'IDLE'
  | 0
  | 'COMPUTE'
  | 1
  | 'EXCHANGE'
  | 2
  | 'UPDATE'
  | 3
  /**
   * for other workers
   */
  | 'WAIT'
  | 4

export type _orchestrator_v1_Heartbeat_Stage__Output = typeof _orchestrator_v1_Heartbeat_Stage[keyof typeof _orchestrator_v1_Heartbeat_Stage]

export interface Heartbeat {
  /**
   * slots of the validation in progress that are computed, of all its weights
   */
  'validated'?: (number);
  /**
   * what its threads are at
   */
  'stage'?: (_orchestrator_v1_Heartbeat_Stage);
  /**
   * pieces of work that they have done: while it computes, exchanges or updates, it hangs if they stand
   */
  'ticks'?: (number | string | Long);
}

export interface Heartbeat__Output {
  /**
   * slots of the validation in progress that are computed, of all its weights
   */
  'validated': (number);
  /**
   * what its threads are at
   */
  'stage': (_orchestrator_v1_Heartbeat_Stage__Output);
  /**
   * pieces of work that they have done: while it computes, exchanges or updates, it hangs if they stand
   */
  'ticks': (number);
}
