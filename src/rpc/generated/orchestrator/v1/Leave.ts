// Original file: proto/cluster.proto


/**
 * The worker received a signal and asks to leave. It stays until a Stop releases it. If too few would remain, the
 * run stops in order.
 */
export interface Leave {
  /**
   * 128 + the number of the signal
   */
  'exitCode'?: (number);
}

/**
 * The worker received a signal and asks to leave. It stays until a Stop releases it. If too few would remain, the
 * run stops in order.
 */
export interface Leave__Output {
  /**
   * 128 + the number of the signal
   */
  'exitCode': (number);
}
