// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

export interface SlotReport {
  'slot'?: (number);
  /**
   * weighted, per sample
   */
  'losses'?: (number | string)[];
  /**
   * row numbers
   */
  'samples'?: (number | string | Long)[];
  /**
   * those with the weight 0, because a stored value is not finite
   */
  'skipped'?: (number | string | Long)[];
  /**
   * t of each sample
   */
  'times'?: (number | string)[];
}

export interface SlotReport__Output {
  'slot': (number);
  /**
   * weighted, per sample
   */
  'losses': (number)[];
  /**
   * row numbers
   */
  'samples': (number)[];
  /**
   * those with the weight 0, because a stored value is not finite
   */
  'skipped': (number)[];
  /**
   * t of each sample
   */
  'times': (number)[];
}
