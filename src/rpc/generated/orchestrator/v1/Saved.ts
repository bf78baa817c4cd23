// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

/**
 * The checkpoint of the step is written and verified. The coordinator publishes it when all workers have
 * applied the step with the same state, and validated it if they were to.
 */
export interface Saved {
  'step'?: (number | string | Long);
  /**
   * its name in the run's folder `checkpoints`; it is not the final name
   */
  'folder'?: (string);
  'seconds'?: (number | string);
  /**
   * time for which the training loop waited
   */
  'stallSeconds'?: (number | string);
  /**
   * of its files
   */
  'bytes'?: (number | string);
}

/**
 * The checkpoint of the step is written and verified. The coordinator publishes it when all workers have
 * applied the step with the same state, and validated it if they were to.
 */
export interface Saved__Output {
  'step': (number);
  /**
   * its name in the run's folder `checkpoints`; it is not the final name
   */
  'folder': (string);
  'seconds': (number);
  /**
   * time for which the training loop waited
   */
  'stallSeconds': (number);
  /**
   * of its files
   */
  'bytes': (number);
}
