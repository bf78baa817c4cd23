// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

/**
 * Step `step` counts: apply the update, then what is asked for, then go on with the next step unless told to stop.
 */
export interface Commit {
  'step'?: (number | string | Long);
  'validate'?: (boolean);
  'checkpoint'?: (boolean);
  'hash'?: (boolean);
  'stop'?: (boolean);
}

/**
 * Step `step` counts: apply the update, then what is asked for, then go on with the next step unless told to stop.
 */
export interface Commit__Output {
  'step': (number);
  'validate': (boolean);
  'checkpoint': (boolean);
  'hash': (boolean);
  'stop': (boolean);
}
