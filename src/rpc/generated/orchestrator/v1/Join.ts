// Original file: proto/cluster.proto


export interface Join {
  'token'?: (string);
  /**
   * version of this file's meaning
   */
  'protocol'?: (number);
  /**
   * ranks follow the order of the ids
   */
  'workerId'?: (string);
  'host'?: (string);
  'pid'?: (number);
  /**
   * of the worker's Peer service: host:port or unix-abstract:name
   */
  'dataAddress'?: (string);
  'isa'?: (string);
  /**
   * address of its shared memory on its machine; empty: none
   */
  'sharedMemory'?: (string);
}

export interface Join__Output {
  'token': (string);
  /**
   * version of this file's meaning
   */
  'protocol': (number);
  /**
   * ranks follow the order of the ids
   */
  'workerId': (string);
  'host': (string);
  'pid': (number);
  /**
   * of the worker's Peer service: host:port or unix-abstract:name
   */
  'dataAddress': (string);
  'isa': (string);
  /**
   * address of its shared memory on its machine; empty: none
   */
  'sharedMemory': (string);
}
