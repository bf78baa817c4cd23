// Original file: proto/cluster.proto


/**
 * Where the state comes from.
 */
export interface Sync {
  /**
   * folder; empty: initialise
   */
  'checkpoint'?: (string);
}

/**
 * Where the state comes from.
 */
export interface Sync__Output {
  /**
   * folder; empty: initialise
   */
  'checkpoint': (string);
}
