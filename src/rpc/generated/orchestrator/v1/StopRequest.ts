// Original file: proto/cluster.proto


/**
 * The worker received SIGTERM or SIGINT and requests an orderly stop.
 */
export interface StopRequest {
  'exitCode'?: (number);
}

/**
 * The worker received SIGTERM or SIGINT and requests an orderly stop.
 */
export interface StopRequest__Output {
  'exitCode': (number);
}
