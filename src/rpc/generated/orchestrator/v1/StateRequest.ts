// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

export interface StateRequest {
  'step'?: (number | string | Long);
}

export interface StateRequest__Output {
  'step': (number);
}
