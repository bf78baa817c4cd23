// Original file: proto/cluster.proto


export interface Heartbeat {
  /**
   * slots of the validation in progress that are computed, of all its weights
   */
  'validated'?: (number);
}

export interface Heartbeat__Output {
  /**
   * slots of the validation in progress that are computed, of all its weights
   */
  'validated': (number);
}
