// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

/**
 * What is to be done with the state as it is after the step; then the next step is computed unless `stop`. In a
 * Start, all hold the state; in a Commit, the step is accepted and the update is applied first.
 */
export interface Orders {
  'validate'?: (boolean);
  /**
   * compare the workers' state (Applied); rank 0 writes it, or offers it
   */
  'checkpoint'?: (boolean);
  'stop'?: (boolean);
  'step'?: (number | string | Long);
}

/**
 * What is to be done with the state as it is after the step; then the next step is computed unless `stop`. In a
 * Start, all hold the state; in a Commit, the step is accepted and the update is applied first.
 */
export interface Orders__Output {
  'validate': (boolean);
  /**
   * compare the workers' state (Applied); rank 0 writes it, or offers it
   */
  'checkpoint': (boolean);
  'stop': (boolean);
  'step': (number);
}
