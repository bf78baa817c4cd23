// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

export interface StepTimes {
  /**
   * from the start of the batch's preparation to Prepared
   */
  'totalSeconds'?: (number | string);
  /**
   * of compute threads, summed over them
   */
  'gatherSeconds'?: (number | string);
  /**
   * of compute threads, summed over them
   */
  'computeSeconds'?: (number | string);
  /**
   * not hidden behind compute
   */
  'exchangeSeconds'?: (number | string);
  /**
   * of the step before
   */
  'updateSeconds'?: (number | string);
  /**
   * received
   */
  'exchangeBytes'?: (number | string | Long);
}

export interface StepTimes__Output {
  /**
   * from the start of the batch's preparation to Prepared
   */
  'totalSeconds': (number);
  /**
   * of compute threads, summed over them
   */
  'gatherSeconds': (number);
  /**
   * of compute threads, summed over them
   */
  'computeSeconds': (number);
  /**
   * not hidden behind compute
   */
  'exchangeSeconds': (number);
  /**
   * of the step before
   */
  'updateSeconds': (number);
  /**
   * received
   */
  'exchangeBytes': (number);
}
