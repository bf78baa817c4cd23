// Original file: proto/cluster.proto


export interface Heartbeat {
  'unixSeconds'?: (number | string);
}

export interface Heartbeat__Output {
  'unixSeconds': (number);
}
