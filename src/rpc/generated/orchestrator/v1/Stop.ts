// Original file: proto/cluster.proto


export interface Stop {
  'exitCode'?: (number);
}

export interface Stop__Output {
  'exitCode': (number);
}
