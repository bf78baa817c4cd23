// Original file: proto/cluster.proto


export interface Invitation {
  /**
   * how many workers may join with it
   */
  'uses'?: (number);
  /**
   * until it expires
   */
  'seconds'?: (number | string);
  /**
   * the worker's id; empty: those that join name themselves
   */
  'worker'?: (string);
}

export interface Invitation__Output {
  /**
   * how many workers may join with it
   */
  'uses': (number);
  /**
   * until it expires
   */
  'seconds': (number);
  /**
   * the worker's id; empty: those that join name themselves
   */
  'worker': (string);
}
