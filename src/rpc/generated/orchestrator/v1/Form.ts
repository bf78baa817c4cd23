// Original file: proto/cluster.proto

import type { Member as _orchestrator_v1_Member, Member__Output as _orchestrator_v1_Member__Output } from '../../orchestrator/v1/Member.js';

/**
 * A generation: its members and the slots of each.
 */
export interface Form {
  /**
   * by rank
   */
  'members'?: (_orchestrator_v1_Member)[];
  /**
   * rank of the receiver
   */
  'rank'?: (number);
}

/**
 * A generation: its members and the slots of each.
 */
export interface Form__Output {
  /**
   * by rank
   */
  'members': (_orchestrator_v1_Member__Output)[];
  /**
   * rank of the receiver
   */
  'rank': (number);
}
