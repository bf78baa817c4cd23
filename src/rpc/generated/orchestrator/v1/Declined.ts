// Original file: proto/cluster.proto


/**
 * The coordinator does not want the copy of a state that the worker has offered: it has given that checkpoint up, or has
 * not ordered it. May come in any generation, and does not count for a later offer of the same step.
 */
export interface Declined {
  /**
   * Offered.number
   */
  'number'?: (number);
}

/**
 * The coordinator does not want the copy of a state that the worker has offered: it has given that checkpoint up, or has
 * not ordered it. May come in any generation, and does not count for a later offer of the same step.
 */
export interface Declined__Output {
  /**
   * Offered.number
   */
  'number': (number);
}
