// Original file: proto/cluster.proto


/**
 * What the other workers must know of a worker's GPU to connect to it.
 */
export interface DeviceRendezvous {
  /**
   * its UUID, which no other worker may have
   */
  'gpu'?: (string);
  /**
   * "NCCL 2.30.7", which must be the same for all
   */
  'library'?: (string);
  /**
   * of rank 0 only: NCCL's unique id, by which the others find it
   */
  'uniqueId'?: (string);
  /**
   * why the GPU cannot be connected; the other fields are empty then
   */
  'problem'?: (string);
}

/**
 * What the other workers must know of a worker's GPU to connect to it.
 */
export interface DeviceRendezvous__Output {
  /**
   * its UUID, which no other worker may have
   */
  'gpu': (string);
  /**
   * "NCCL 2.30.7", which must be the same for all
   */
  'library': (string);
  /**
   * of rank 0 only: NCCL's unique id, by which the others find it
   */
  'uniqueId': (string);
  /**
   * why the GPU cannot be connected; the other fields are empty then
   */
  'problem': (string);
}
