// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

export interface Ready {
  /**
   * steps done in the state that is loaded
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
   * what `precision: auto` came to
   */
  'precision'?: (string);
  /**
   * name of each validation slot's bin of t, in slot order
   */
  'validation'?: (string)[];
  /**
   * name and number of the GPU that it computes on; empty: the CPU
   */
  'device'?: (string);
}

export interface Ready__Output {
  /**
   * steps done in the state that is loaded
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
   * what `precision: auto` came to
   */
  'precision': (string);
  /**
   * name of each validation slot's bin of t, in slot order
   */
  'validation': (string)[];
  /**
   * name and number of the GPU that it computes on; empty: the CPU
   */
  'device': (string);
}
