// Original file: proto/cluster.proto


export interface Member {
  'rank'?: (number);
  'workerId'?: (string);
  'dataAddress'?: (string);
  'firstSlot'?: (number);
  'endSlot'?: (number);
  'sharedMemory'?: (string);
}

export interface Member__Output {
  'rank': (number);
  'workerId': (string);
  'dataAddress': (string);
  'firstSlot': (number);
  'endSlot': (number);
  'sharedMemory': (string);
}
