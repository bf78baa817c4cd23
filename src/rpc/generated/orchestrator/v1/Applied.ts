// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

export interface Applied {
  'step'?: (number | string | Long);
  'stateHash'?: (string);
}

export interface Applied__Output {
  'step': (number);
  'stateHash': (string);
}
