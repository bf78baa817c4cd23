// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

export interface StepTimes {
  /**
   * from the start of preparing the batch to Prepared
   */
  'totalSeconds'?: (number | string);
  /**
   * summed over the compute threads
   */
  'gatherSeconds'?: (number | string);
  /**
   * summed over the compute threads
   */
  'computeSeconds'?: (number | string);
  /**
   * not overlapped with compute
   */
  'exchangeSeconds'?: (number | string);
  /**
   * of the previous step
   */
  'updateSeconds'?: (number | string);
  /**
   * bytes received
   */
  'exchangeBytes'?: (number | string | Long);
}

export interface StepTimes__Output {
  /**
   * from the start of preparing the batch to Prepared
   */
  'totalSeconds': (number);
  /**
   * summed over the compute threads
   */
  'gatherSeconds': (number);
  /**
   * summed over the compute threads
   */
  'computeSeconds': (number);
  /**
   * not overlapped with compute
   */
  'exchangeSeconds': (number);
  /**
   * of the previous step
   */
  'updateSeconds': (number);
  /**
   * bytes received
   */
  'exchangeBytes': (number);
}
