// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

/**
 * The worker has done everything requested.
 */
export interface Finished {
  'step'?: (number | string | Long);
}

/**
 * The worker has done everything requested.
 */
export interface Finished__Output {
  'step': (number);
}
