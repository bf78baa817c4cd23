// Original file: proto/cluster.proto


export interface Welcome {
  /**
   * the effective config, canonical JSON
   */
  'configJson'?: (string);
  'workers'?: (number);
  'runDir'?: (string);
}

export interface Welcome__Output {
  /**
   * the effective config, canonical JSON
   */
  'configJson': (string);
  'workers': (number);
  'runDir': (string);
}
