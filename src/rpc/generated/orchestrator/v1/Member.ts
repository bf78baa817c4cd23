// Original file: proto/cluster.proto


export interface Member {
  'dataAddress'?: (string);
  'firstSlot'?: (number);
  'endSlot'?: (number);
  'sharedMemory'?: (string);
  /**
   * worker_id of its Join
   */
  'id'?: (string);
  'localAddress'?: (string);
  'machine'?: (string);
}

export interface Member__Output {
  'dataAddress': (string);
  'firstSlot': (number);
  'endSlot': (number);
  'sharedMemory': (string);
  /**
   * worker_id of its Join
   */
  'id': (string);
  'localAddress': (string);
  'machine': (string);
}
