// Original file: proto/cluster.proto


/**
 * The source of the state.
 */
export interface Sync {
  /**
   * its folder; empty: initialise
   */
  'checkpoint'?: (string);
  /**
   * Formed.device of every worker, by rank
   */
  'devices'?: (string)[];
}

/**
 * The source of the state.
 */
export interface Sync__Output {
  /**
   * its folder; empty: initialise
   */
  'checkpoint': (string);
  /**
   * Formed.device of every worker, by rank
   */
  'devices': (string)[];
}
