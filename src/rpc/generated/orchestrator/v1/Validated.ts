// Original file: proto/cluster.proto

import type { ValidationLoss as _orchestrator_v1_ValidationLoss, ValidationLoss__Output as _orchestrator_v1_ValidationLoss__Output } from '../../orchestrator/v1/ValidationLoss.js';
import type { Long } from '@grpc/proto-loader';

export interface Validated {
  'step'?: (number | string | Long);
  'losses'?: (_orchestrator_v1_ValidationLoss)[];
  /**
   * |EMA - master| / |master|; of rank 0
   */
  'emaDistance'?: (number | string);
}

export interface Validated__Output {
  'step': (number);
  'losses': (_orchestrator_v1_ValidationLoss__Output)[];
  /**
   * |EMA - master| / |master|; of rank 0
   */
  'emaDistance': (number);
}
