// Original file: proto/cluster.proto


export interface Welcome {
  'runId'?: (string);
  /**
   * the effective config, canonical JSON
   */
  'configJson'?: (string);
  'workers'?: (number);
  /**
   * token that peers must present to each other
   */
  'dataToken'?: (string);
  'runDir'?: (string);
}

export interface Welcome__Output {
  'runId': (string);
  /**
   * the effective config, canonical JSON
   */
  'configJson': (string);
  'workers': (number);
  /**
   * token that peers must present to each other
   */
  'dataToken': (string);
  'runDir': (string);
}
