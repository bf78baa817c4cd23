// Original file: proto/cluster.proto


export interface Welcome {
  /**
   * the effective config, canonical JSON
   */
  'configJson'?: (string);
  'workers'?: (number);
  'runDir'?: (string);
  /**
   * version of the sample plan, which a run keeps from its start
   */
  'planVersion'?: (number);
}

export interface Welcome__Output {
  /**
   * the effective config, canonical JSON
   */
  'configJson': (string);
  'workers': (number);
  'runDir': (string);
  /**
   * version of the sample plan, which a run keeps from its start
   */
  'planVersion': (number);
}
