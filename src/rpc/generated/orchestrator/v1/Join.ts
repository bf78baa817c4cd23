// Original file: proto/cluster.proto


export interface Join {
  /**
   * version of the protocol that this file defines
   */
  'protocol'?: (number);
  /**
   * ranks are assigned in the order of the ids
   */
  'workerId'?: (string);
  'host'?: (string);
  'pid'?: (number);
  /**
   * address of the worker's Peer service: host:port or unix-abstract:name
   */
  'dataAddress'?: (string);
  /**
   * address of its shared memory, for workers of the same machine; empty: none
   */
  'sharedMemory'?: (string);
}

export interface Join__Output {
  /**
   * version of the protocol that this file defines
   */
  'protocol': (number);
  /**
   * ranks are assigned in the order of the ids
   */
  'workerId': (string);
  'host': (string);
  'pid': (number);
  /**
   * address of the worker's Peer service: host:port or unix-abstract:name
   */
  'dataAddress': (string);
  /**
   * address of its shared memory, for workers of the same machine; empty: none
   */
  'sharedMemory': (string);
}
