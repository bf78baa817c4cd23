// Original file: proto/cluster.proto

import type { SlotReport as _orchestrator_v1_SlotReport, SlotReport__Output as _orchestrator_v1_SlotReport__Output } from '../../orchestrator/v1/SlotReport.js';
import type { NonFinite as _orchestrator_v1_NonFinite, NonFinite__Output as _orchestrator_v1_NonFinite__Output } from '../../orchestrator/v1/NonFinite.js';
import type { AttentionStatistic as _orchestrator_v1_AttentionStatistic, AttentionStatistic__Output as _orchestrator_v1_AttentionStatistic__Output } from '../../orchestrator/v1/AttentionStatistic.js';
import type { Long } from '@grpc/proto-loader';

export interface Prepared {
  'step'?: (number | string | Long);
  'slots'?: (_orchestrator_v1_SlotReport)[];
  'gradientNorm'?: (number | string);
  /**
   * the worker's slots whose gradient has a NaN or an infinity
   */
  'nonFinite'?: (_orchestrator_v1_NonFinite)[];
  'attention'?: (_orchestrator_v1_AttentionStatistic)[];
  /**
   * by the names of WORKER_NUMBERS (src/telemetry/metrics.ts)
   */
  'numbers'?: ({[key: string]: number | string});
  /**
   * by block; of rank 0, in steps with statistics
   */
  'gradientNorms'?: ({[key: string]: number | string});
}

export interface Prepared__Output {
  'step': (number);
  'slots': (_orchestrator_v1_SlotReport__Output)[];
  'gradientNorm': (number);
  /**
   * the worker's slots whose gradient has a NaN or an infinity
   */
  'nonFinite': (_orchestrator_v1_NonFinite__Output)[];
  'attention': (_orchestrator_v1_AttentionStatistic__Output)[];
  /**
   * by the names of WORKER_NUMBERS (src/telemetry/metrics.ts)
   */
  'numbers': ({[key: string]: number});
  /**
   * by block; of rank 0, in steps with statistics
   */
  'gradientNorms': ({[key: string]: number});
}
