// Original file: proto/cluster.proto


export interface Member {
  'dataAddress'?: (string);
  'firstSlot'?: (number);
  'endSlot'?: (number);
  'sharedMemory'?: (string);
}

export interface Member__Output {
  'dataAddress': (string);
  'firstSlot': (number);
  'endSlot': (number);
  'sharedMemory': (string);
}
