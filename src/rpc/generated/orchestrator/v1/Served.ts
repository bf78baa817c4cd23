// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

/**
 * The checkpoint of this step, which the coordinator reads for a worker where nobody else sees it.
 */
export interface Served {
  'step'?: (number | string | Long);
}

/**
 * The checkpoint of this step, which the coordinator reads for a worker where nobody else sees it.
 */
export interface Served__Output {
  'step': (number);
}
