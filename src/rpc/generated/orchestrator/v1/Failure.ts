// Original file: proto/cluster.proto


export interface Failure {
  'code'?: (string);
  'message'?: (string);
  /**
   * what the user can do about it; may be empty
   */
  'hint'?: (string);
}

export interface Failure__Output {
  'code': (string);
  'message': (string);
  /**
   * what the user can do about it; may be empty
   */
  'hint': (string);
}
