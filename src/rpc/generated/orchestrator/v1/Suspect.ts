// Original file: proto/cluster.proto


/**
 * The exchange with other members broke. The worker waits for what the coordinator decides.
 */
export interface Suspect {
  /**
   * that cannot be reached; -1: one that is reached cannot go on
   */
  'rank'?: (number);
  'why'?: (string);
}

/**
 * The exchange with other members broke. The worker waits for what the coordinator decides.
 */
export interface Suspect__Output {
  /**
   * that cannot be reached; -1: one that is reached cannot go on
   */
  'rank': (number);
  'why': (string);
}
