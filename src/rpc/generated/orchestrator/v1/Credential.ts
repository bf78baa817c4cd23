// Original file: proto/cluster.proto


export interface Credential {
  'line'?: (string);
}

export interface Credential__Output {
  'line': (string);
}
