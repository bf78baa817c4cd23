// Original file: proto/tensorboard.proto

import type { Long } from '@grpc/proto-loader';

export interface _tensorboard_TensorShapeProto_Dim {
  'size'?: (number | string | Long);
}

export interface _tensorboard_TensorShapeProto_Dim__Output {
  'size': (number);
}

export interface TensorShapeProto {
  'dim'?: (_tensorboard_TensorShapeProto_Dim)[];
}

export interface TensorShapeProto__Output {
  'dim': (_tensorboard_TensorShapeProto_Dim__Output)[];
}
