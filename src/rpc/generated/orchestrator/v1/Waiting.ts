// Original file: proto/cluster.proto


/**
 * The worker is on standby, and gets no place for now. Its generation is not that of the others: if it was in one, that
 * has ended, and it leaves the memory that it shares with others.
 */
export interface Waiting {
  /**
   * empty: it has asked to leave, and is released when it has written its checkpoint
   */
  'reason'?: (string);
}

/**
 * The worker is on standby, and gets no place for now. Its generation is not that of the others: if it was in one, that
 * has ended, and it leaves the memory that it shares with others.
 */
export interface Waiting__Output {
  /**
   * empty: it has asked to leave, and is released when it has written its checkpoint
   */
  'reason': (string);
}
