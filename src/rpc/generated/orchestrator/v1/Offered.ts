// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

/**
 * The worker was to write the checkpoint of the step, and does not see the run folder: the coordinator gets the state
 * from it (PullRequest.OFFERED) and writes.
 */
export interface Offered {
  'step'?: (number | string | Long);
  /**
   * what the manifest says of the state: JSON
   */
  'metadata'?: (Buffer | Uint8Array | string);
  /**
   * the optimizer's, in the order of the stream
   */
  'moments'?: (string)[];
  'ema'?: (boolean);
  'stallSeconds'?: (number | string);
  /**
   * of the worker's offers
   */
  'number'?: (number);
}

/**
 * The worker was to write the checkpoint of the step, and does not see the run folder: the coordinator gets the state
 * from it (PullRequest.OFFERED) and writes.
 */
export interface Offered__Output {
  'step': (number);
  /**
   * what the manifest says of the state: JSON
   */
  'metadata': (Buffer);
  /**
   * the optimizer's, in the order of the stream
   */
  'moments': (string)[];
  'ema': (boolean);
  'stallSeconds': (number);
  /**
   * of the worker's offers
   */
  'number': (number);
}
