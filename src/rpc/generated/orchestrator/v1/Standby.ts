// Original file: proto/cluster.proto


/**
 * The worker has opened the data and built its engine, and may be given a rank.
 */
export interface Standby {
  /**
   * It is on a machine that does not see the run's folder: others read and write checkpoints for it.
   */
  'withoutRunFolder'?: (boolean);
  /**
   * What the bits of its sums depend on: "device cpu, isa avx512bf16, kernels 3, precision bf16, probe 1f2e3d4c5b6a7988".
   * The same for all.
   */
  'arithmetic'?: (string);
  /**
   * It has the state of the run in its memory, its own or shared with others: it was in a generation that started.
   */
  'holds'?: (boolean);
  /**
   * It has been in memory that others share, whether there is a state or not.
   */
  'shares'?: (boolean);
}

/**
 * The worker has opened the data and built its engine, and may be given a rank.
 */
export interface Standby__Output {
  /**
   * It is on a machine that does not see the run's folder: others read and write checkpoints for it.
   */
  'withoutRunFolder': (boolean);
  /**
   * What the bits of its sums depend on: "device cpu, isa avx512bf16, kernels 3, precision bf16, probe 1f2e3d4c5b6a7988".
   * The same for all.
   */
  'arithmetic': (string);
  /**
   * It has the state of the run in its memory, its own or shared with others: it was in a generation that started.
   */
  'holds': (boolean);
  /**
   * It has been in memory that others share, whether there is a state or not.
   */
  'shares': (boolean);
}
