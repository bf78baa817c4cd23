// Original file: proto/cluster.proto


export interface AttentionStatistic {
  'name'?: (string);
  'maxAbsLogit'?: (number | string);
  'meanEntropy'?: (number | string);
}

export interface AttentionStatistic__Output {
  'name': (string);
  'maxAbsLogit': (number);
  'meanEntropy': (number);
}
