// Original file: proto/cluster.proto


/**
 * Where the state comes from.
 */
export interface Sync {
  /**
   * folder; empty: initialise
   */
  'checkpoint'?: (string);
  /**
   * what the workers said in Formed, by rank
   */
  'devices'?: (string)[];
}

/**
 * Where the state comes from.
 */
export interface Sync__Output {
  /**
   * folder; empty: initialise
   */
  'checkpoint': (string);
  /**
   * what the workers said in Formed, by rank
   */
  'devices': (string)[];
}
