// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

/**
 * Step `step` is accepted: apply the update, do what the flags request, then continue with the next step
 * unless `stop`.
 */
export interface Commit {
  'step'?: (number | string | Long);
  'validate'?: (boolean);
  'checkpoint'?: (boolean);
  'hash'?: (boolean);
  'stop'?: (boolean);
}

/**
 * Step `step` is accepted: apply the update, do what the flags request, then continue with the next step
 * unless `stop`.
 */
export interface Commit__Output {
  'step': (number);
  'validate': (boolean);
  'checkpoint': (boolean);
  'hash': (boolean);
  'stop': (boolean);
}
