// Original file: proto/cluster.proto


/**
 * The worker was told to end (SIGTERM or SIGINT) and asks for an orderly stop.
 */
export interface StopRequest {
  'exitCode'?: (number);
}

/**
 * The worker was told to end (SIGTERM or SIGINT) and asks for an orderly stop.
 */
export interface StopRequest__Output {
  'exitCode': (number);
}
