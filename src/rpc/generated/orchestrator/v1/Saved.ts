// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

export interface Saved {
  'step'?: (number | string | Long);
  'path'?: (string);
  'seconds'?: (number | string);
  /**
   * time for which the training loop waited
   */
  'stallSeconds'?: (number | string);
  'bytes'?: (number | string);
}

export interface Saved__Output {
  'step': (number);
  'path': (string);
  'seconds': (number);
  /**
   * time for which the training loop waited
   */
  'stallSeconds': (number);
  'bytes': (number);
}
