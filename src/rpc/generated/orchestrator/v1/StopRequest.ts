// Original file: proto/cluster.proto


/**
 * The worker received a signal and requests an orderly stop.
 */
export interface StopRequest {
  /**
   * 128 + the number of the signal
   */
  'exitCode'?: (number);
}

/**
 * The worker received a signal and requests an orderly stop.
 */
export interface StopRequest__Output {
  /**
   * 128 + the number of the signal
   */
  'exitCode': (number);
}
