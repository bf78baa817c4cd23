// Original file: proto/cluster.proto

import type { Member as _orchestrator_v1_Member, Member__Output as _orchestrator_v1_Member__Output } from '../../orchestrator/v1/Member.js';

/**
 * A generation: its members and the slots of each. It is the same for all of them.
 */
export interface Form {
  /**
   * by rank
   */
  'members'?: (_orchestrator_v1_Member)[];
}

/**
 * A generation: its members and the slots of each. It is the same for all of them.
 */
export interface Form__Output {
  /**
   * by rank
   */
  'members': (_orchestrator_v1_Member__Output)[];
}
