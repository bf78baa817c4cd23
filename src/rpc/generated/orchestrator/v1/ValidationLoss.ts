// Original file: proto/cluster.proto


export interface ValidationLoss {
  /**
   * "master" or "ema"
   */
  'weights'?: (string);
  /**
   * number of the validation slot: a fixed group of rows at a fixed t
   */
  'slot'?: (number);
  'losses'?: (number | string)[];
}

export interface ValidationLoss__Output {
  /**
   * "master" or "ema"
   */
  'weights': (string);
  /**
   * number of the validation slot: a fixed group of rows at a fixed t
   */
  'slot': (number);
  'losses': (number)[];
}
