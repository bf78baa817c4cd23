// Original file: proto/cluster.proto


export interface Welcome {
  /**
   * the effective config, canonical JSON
   */
  'configJson'?: (string);
  'workers'?: (number);
  'runDir'?: (string);
  /**
   * the segments of the sample plan, JSON (src/step/segment.ts)
   */
  'planJson'?: (string);
  /**
   * how long a worker waits for a coordinator that is gone
   */
  'patienceSeconds'?: (number | string);
  /**
   * the instruction set with which all workers compute; empty: any, or on GPUs
   */
  'isa'?: (string);
}

export interface Welcome__Output {
  /**
   * the effective config, canonical JSON
   */
  'configJson': (string);
  'workers': (number);
  'runDir': (string);
  /**
   * the segments of the sample plan, JSON (src/step/segment.ts)
   */
  'planJson': (string);
  /**
   * how long a worker waits for a coordinator that is gone
   */
  'patienceSeconds': (number);
  /**
   * the instruction set with which all workers compute; empty: any, or on GPUs
   */
  'isa': (string);
}
