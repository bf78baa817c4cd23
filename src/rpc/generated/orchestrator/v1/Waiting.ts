// Original file: proto/cluster.proto


/**
 * The worker is on standby, and gets no place for now. Its generation is not that of the others.
 */
export interface Waiting {
  'reason'?: (string);
}

/**
 * The worker is on standby, and gets no place for now. Its generation is not that of the others.
 */
export interface Waiting__Output {
  'reason': (string);
}
