// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

export interface AttentionStatistic {
  'name'?: (string);
  'maxAbsLogit'?: (number | string);
  'meanEntropy'?: (number | string);
  /**
   * of the queries: "text" or "image"
   */
  'stream'?: (string);
  /**
   * number of query rows
   */
  'rows'?: (number | string | Long);
  /**
   * the largest logit that QK-norm allows; of rank 0; 0: there is no norm
   */
  'logitBound'?: (number | string);
}

export interface AttentionStatistic__Output {
  'name': (string);
  'maxAbsLogit': (number);
  'meanEntropy': (number);
  /**
   * of the queries: "text" or "image"
   */
  'stream': (string);
  /**
   * number of query rows
   */
  'rows': (number);
  /**
   * the largest logit that QK-norm allows; of rank 0; 0: there is no norm
   */
  'logitBound': (number);
}
