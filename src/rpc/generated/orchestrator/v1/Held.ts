// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

/**
 * The state in a worker's memory: weights, EMA and moments after this step.
 */
export interface Held {
  'step'?: (number | string | Long);
}

/**
 * The state in a worker's memory: weights, EMA and moments after this step.
 */
export interface Held__Output {
  'step': (number);
}
