// Original file: proto/cluster.proto


export interface Stop {
  'reason'?: (string);
  'exitCode'?: (number);
}

export interface Stop__Output {
  'reason': (string);
  'exitCode': (number);
}
