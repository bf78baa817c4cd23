// Original file: proto/cluster.proto


/**
 * The worker has opened the data and built its engine, and may be given a rank.
 */
export interface Standby {
  /**
   * It is on a machine that does not see the run's folder: it cannot read or write checkpoints.
   */
  'withoutRunFolder'?: (boolean);
}

/**
 * The worker has opened the data and built its engine, and may be given a rank.
 */
export interface Standby__Output {
  /**
   * It is on a machine that does not see the run's folder: it cannot read or write checkpoints.
   */
  'withoutRunFolder': (boolean);
}
