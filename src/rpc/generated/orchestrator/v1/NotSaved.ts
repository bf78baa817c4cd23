// Original file: proto/cluster.proto

import type { Failure as _orchestrator_v1_Failure, Failure__Output as _orchestrator_v1_Failure__Output } from '../../orchestrator/v1/Failure.js';
import type { Long } from '@grpc/proto-loader';

/**
 * The checkpoint of the step could not be written, and nothing of it is left. Training goes on.
 */
export interface NotSaved {
  'step'?: (number | string | Long);
  'failure'?: (_orchestrator_v1_Failure | null);
}

/**
 * The checkpoint of the step could not be written, and nothing of it is left. Training goes on.
 */
export interface NotSaved__Output {
  'step': (number);
  'failure': (_orchestrator_v1_Failure__Output | null);
}
