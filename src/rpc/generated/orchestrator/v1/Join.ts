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
   * host:port of the worker's Peer service for other machines; empty: none
   */
  'dataAddress'?: (string);
  /**
   * address of its shared memory, for workers of the same machine; empty: none
   */
  'sharedMemory'?: (string);
  /**
   * unix-abstract:name of its Peer service for workers of the same machine
   */
  'localAddress'?: (string);
  /**
   * where local_address means something
   */
  'machine'?: (string);
  /**
   * no launcher has started it, so none will start it again
   */
  'ownAccord'?: (boolean);
  /**
   * those of its processor, the best first
   */
  'instructionSets'?: (string)[];
  /**
   * The only one of them with which it may compute: its user asks for it, or it has been in a generation with it;
   * empty: any.
   */
  'onlyIsa'?: (string);
  /**
   * which code its program has: two of the same version may differ
   */
  'build'?: (string);
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
   * host:port of the worker's Peer service for other machines; empty: none
   */
  'dataAddress': (string);
  /**
   * address of its shared memory, for workers of the same machine; empty: none
   */
  'sharedMemory': (string);
  /**
   * unix-abstract:name of its Peer service for workers of the same machine
   */
  'localAddress': (string);
  /**
   * where local_address means something
   */
  'machine': (string);
  /**
   * no launcher has started it, so none will start it again
   */
  'ownAccord': (boolean);
  /**
   * those of its processor, the best first
   */
  'instructionSets': (string)[];
  /**
   * The only one of them with which it may compute: its user asks for it, or it has been in a generation with it;
   * empty: any.
   */
  'onlyIsa': (string);
  /**
   * which code its program has: two of the same version may differ
   */
  'build': (string);
}
