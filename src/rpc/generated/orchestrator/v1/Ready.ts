// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

export interface Ready {
  /**
   * number of steps in the loaded state
   */
  'step'?: (number | string | Long);
  /**
   * SHA-256 of the config as the worker understood it
   */
  'configHash'?: (string);
  'datasetHash'?: (string);
  /**
   * digest of weights, EMA, moments and positions
   */
  'stateHash'?: (string);
  'parameters'?: (number | string | Long);
  'flopsPerSlot'?: (number | string);
  /**
   * the precision chosen for `precision: auto`; on GPUs also what computes attention
   */
  'precision'?: (string);
  /**
   * name of each validation slot's bin of t, in slot order
   */
  'validation'?: (string)[];
  /**
   * name and number of the worker's GPU; empty: the CPU
   */
  'device'?: (string);
  /**
   * FLOP/s of large matmuls, measured at the start; 0: not measured
   */
  'matmulPeak'?: (number | string);
}

export interface Ready__Output {
  /**
   * number of steps in the loaded state
   */
  'step': (number);
  /**
   * SHA-256 of the config as the worker understood it
   */
  'configHash': (string);
  'datasetHash': (string);
  /**
   * digest of weights, EMA, moments and positions
   */
  'stateHash': (string);
  'parameters': (number);
  'flopsPerSlot': (number);
  /**
   * the precision chosen for `precision: auto`; on GPUs also what computes attention
   */
  'precision': (string);
  /**
   * name of each validation slot's bin of t, in slot order
   */
  'validation': (string)[];
  /**
   * name and number of the worker's GPU; empty: the CPU
   */
  'device': (string);
  /**
   * FLOP/s of large matmuls, measured at the start; 0: not measured
   */
  'matmulPeak': (number);
}
