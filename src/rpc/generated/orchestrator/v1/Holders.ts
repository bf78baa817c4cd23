// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

/**
 * The members that hold the state after this step in their memory.
 */
export interface Holders {
  'step'?: (number | string | Long);
  'ranks'?: (number)[];
}

/**
 * The members that hold the state after this step in their memory.
 */
export interface Holders__Output {
  'step': (number);
  'ranks': (number)[];
}
