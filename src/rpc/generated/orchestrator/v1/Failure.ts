// Original file: proto/cluster.proto


export interface Failure {
  'code'?: (string);
  'message'?: (string);
  /**
   * what the user can do about it; may be empty
   */
  'hint'?: (string);
  /**
   * The run ends, because any worker would fail at this. Otherwise only this worker ends, and the others go on
   * if they are enough.
   */
  'fatal'?: (boolean);
}

export interface Failure__Output {
  'code': (string);
  'message': (string);
  /**
   * what the user can do about it; may be empty
   */
  'hint': (string);
  /**
   * The run ends, because any worker would fail at this. Otherwise only this worker ends, and the others go on
   * if they are enough.
   */
  'fatal': (boolean);
}
