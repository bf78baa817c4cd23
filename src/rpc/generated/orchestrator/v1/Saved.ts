// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

export interface Saved {
  'step'?: (number | string | Long);
  'path'?: (string);
  'seconds'?: (number | string);
  /**
   * for which the train loop waited
   */
  'stallSeconds'?: (number | string);
}

export interface Saved__Output {
  'step': (number);
  'path': (string);
  'seconds': (number);
  /**
   * for which the train loop waited
   */
  'stallSeconds': (number);
}
