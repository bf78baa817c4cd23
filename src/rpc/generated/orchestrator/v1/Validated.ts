// Original file: proto/cluster.proto

import type { ValidationLoss as _orchestrator_v1_ValidationLoss, ValidationLoss__Output as _orchestrator_v1_ValidationLoss__Output } from '../../orchestrator/v1/ValidationLoss.js';
import type { Long } from '@grpc/proto-loader';

export interface Validated {
  'step'?: (number | string | Long);
  'losses'?: (_orchestrator_v1_ValidationLoss)[];
  /**
   * time for which the training loop was validating
   */
  'seconds'?: (number | string);
  /**
   * the run was asked to stop: `losses` is empty
   */
  'abandoned'?: (boolean);
  /**
   * |EMA - master| / |master|; of rank 0
   */
  'emaDistance'?: (number | string);
}

export interface Validated__Output {
  'step': (number);
  'losses': (_orchestrator_v1_ValidationLoss__Output)[];
  /**
   * time for which the training loop was validating
   */
  'seconds': (number);
  /**
   * the run was asked to stop: `losses` is empty
   */
  'abandoned': (boolean);
  /**
   * |EMA - master| / |master|; of rank 0
   */
  'emaDistance': (number);
}
