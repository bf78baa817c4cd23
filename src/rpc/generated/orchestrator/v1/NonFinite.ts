// Original file: proto/cluster.proto


export interface NonFinite {
  'slot'?: (number);
  /**
   * the first one
   */
  'tensor'?: (string);
}

export interface NonFinite__Output {
  'slot': (number);
  /**
   * the first one
   */
  'tensor': (string);
}
