// Original file: proto/cluster.proto

import type { Held as _orchestrator_v1_Held, Held__Output as _orchestrator_v1_Held__Output } from '../../orchestrator/v1/Held.js';

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
   * It has been in memory that others share, whether there is a state or not.
   */
  'shares'?: (boolean);
  /**
   * The state of the run in its memory, its own or shared with others: it was in a generation that started. An update that
   * has begun counts. What is shared may be later: others complete an update. Absent: it holds none.
   */
  'held'?: (_orchestrator_v1_Held | null);
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
   * It has been in memory that others share, whether there is a state or not.
   */
  'shares': (boolean);
  /**
   * The state of the run in its memory, its own or shared with others: it was in a generation that started. An update that
   * has begun counts. What is shared may be later: others complete an update. Absent: it holds none.
   */
  'held': (_orchestrator_v1_Held__Output | null);
}
