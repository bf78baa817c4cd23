// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

// Original file: proto/cluster.proto

export const _orchestrator_v1_PullRequest_Kind = {
  /**
   * the peer's local sums over the slices that the receiver owns
   */
  PART: 'PART',
  /**
   * the global sums over the slices that the peer owns
   */
  RESULT: 'RESULT',
  /**
   * a share of the state after the step, while no worker computes
   */
  STATE: 'STATE',
  /**
   * the copy of the state after the step that the peer has offered to the coordinator; in any generation
   */
  OFFERED: 'OFFERED',
} as const;

export type _orchestrator_v1_PullRequest_Kind =
  /**
   * the peer's local sums over the slices that the receiver owns
   */
  | 'PART'
  | 0
  /**
   * the global sums over the slices that the peer owns
   */
  | 'RESULT'
  | 1
  /**
   * a share of the state after the step, while no worker computes
   */
  | 'STATE'
  | 2
  /**
   * the copy of the state after the step that the peer has offered to the coordinator; in any generation
   */
  | 'OFFERED'
  | 3

export type _orchestrator_v1_PullRequest_Kind__Output = typeof _orchestrator_v1_PullRequest_Kind[keyof typeof _orchestrator_v1_PullRequest_Kind]

export interface PullRequest {
  'generation'?: (number | string | Long);
  'step'?: (number | string | Long);
  'kind'?: (_orchestrator_v1_PullRequest_Kind);
  /**
   * rank of the receiver
   */
  'rank'?: (number);
  /**
   * of STATE: which of `shares` equal shares
   */
  'share'?: (number);
  'shares'?: (number);
}

export interface PullRequest__Output {
  'generation': (number);
  'step': (number);
  'kind': (_orchestrator_v1_PullRequest_Kind__Output);
  /**
   * rank of the receiver
   */
  'rank': (number);
  /**
   * of STATE: which of `shares` equal shares
   */
  'share': (number);
  'shares': (number);
}
