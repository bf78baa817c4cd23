// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

/**
 * Everything that was asked for is done.
 */
export interface Finished {
  'step'?: (number | string | Long);
}

/**
 * Everything that was asked for is done.
 */
export interface Finished__Output {
  'step': (number);
}
