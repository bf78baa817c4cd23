// Original file: proto/cluster.proto


/**
 * Whether the worker can share memory with the other members.
 */
export interface Sharing {
  /**
   * why not; empty: it can
   */
  'problem'?: (string);
}

/**
 * Whether the worker can share memory with the other members.
 */
export interface Sharing__Output {
  /**
   * why not; empty: it can
   */
  'problem': (string);
}
