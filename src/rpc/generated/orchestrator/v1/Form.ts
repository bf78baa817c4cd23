// Original file: proto/cluster.proto

import type { Member as _orchestrator_v1_Member, Member__Output as _orchestrator_v1_Member__Output } from '../../orchestrator/v1/Member.js';

/**
 * A generation: who takes part, and which slots are whose.
 */
export interface Form {
  'members'?: (_orchestrator_v1_Member)[];
  /**
   * of the receiver
   */
  'rank'?: (number);
}

/**
 * A generation: who takes part, and which slots are whose.
 */
export interface Form__Output {
  'members': (_orchestrator_v1_Member__Output)[];
  /**
   * of the receiver
   */
  'rank': (number);
}
