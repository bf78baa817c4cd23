// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

export interface Start {
  'firstStep'?: (number | string | Long);
}

export interface Start__Output {
  'firstStep': (number);
}
