// Original file: proto/cluster.proto


/**
 * The worker has reached the data addresses of all its peers.
 */
export interface Formed {
  /**
   * Rendezvous string of the worker's device, "GPU/library/unique id" (the id from rank 0 only), or why the
   * device cannot be connected to others. Empty: not requested.
   */
  'device'?: (string);
}

/**
 * The worker has reached the data addresses of all its peers.
 */
export interface Formed__Output {
  /**
   * Rendezvous string of the worker's device, "GPU/library/unique id" (the id from rank 0 only), or why the
   * device cannot be connected to others. Empty: not requested.
   */
  'device': (string);
}
