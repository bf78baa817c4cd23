// Original file: proto/cluster.proto


/**
 * The peers' data addresses answer.
 */
export interface Formed {
  /**
   * GPU/library/rendezvous of the worker's device, the last of rank 0 only; or why it can be connected to no other one.
   * Empty: nobody asked.
   */
  'device'?: (string);
}

/**
 * The peers' data addresses answer.
 */
export interface Formed__Output {
  /**
   * GPU/library/rendezvous of the worker's device, the last of rank 0 only; or why it can be connected to no other one.
   * Empty: nobody asked.
   */
  'device': (string);
}
