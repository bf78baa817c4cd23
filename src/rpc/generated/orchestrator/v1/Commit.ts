// Original file: proto/cluster.proto


/**
 * The step is accepted: apply the update, do what the flags request, then continue with the next step unless
 * `stop`.
 */
export interface Commit {
  'validate'?: (boolean);
  /**
   * compare the workers' state (Applied); rank 0 writes it
   */
  'checkpoint'?: (boolean);
  'stop'?: (boolean);
}

/**
 * The step is accepted: apply the update, do what the flags request, then continue with the next step unless
 * `stop`.
 */
export interface Commit__Output {
  'validate': (boolean);
  /**
   * compare the workers' state (Applied); rank 0 writes it
   */
  'checkpoint': (boolean);
  'stop': (boolean);
}
