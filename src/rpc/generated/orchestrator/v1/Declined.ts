// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

/**
 * The coordinator does not want the copy of the state after this step, which the worker has offered: it has given that
 * checkpoint up, or has not ordered it. May come in any generation.
 */
export interface Declined {
  'step'?: (number | string | Long);
}

/**
 * The coordinator does not want the copy of the state after this step, which the worker has offered: it has given that
 * checkpoint up, or has not ordered it. May come in any generation.
 */
export interface Declined__Output {
  'step': (number);
}
