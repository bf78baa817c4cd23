// Original file: proto/cluster.proto


export interface NonFinite {
  'slot'?: (number);
  /**
   * first tensor affected
   */
  'tensor'?: (string);
}

export interface NonFinite__Output {
  'slot': (number);
  /**
   * first tensor affected
   */
  'tensor': (string);
}
