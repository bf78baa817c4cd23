// Original file: proto/tensorboard.proto

import type { DataType as _tensorboard_DataType, DataType__Output as _tensorboard_DataType__Output } from '../tensorboard/DataType.js';
import type { TensorShapeProto as _tensorboard_TensorShapeProto, TensorShapeProto__Output as _tensorboard_TensorShapeProto__Output } from '../tensorboard/TensorShapeProto.js';

export interface TensorProto {
  'dtype'?: (_tensorboard_DataType);
  'tensorShape'?: (_tensorboard_TensorShapeProto | null);
  'stringVal'?: (Buffer | Uint8Array | string)[];
}

export interface TensorProto__Output {
  'dtype': (_tensorboard_DataType__Output);
  'tensorShape': (_tensorboard_TensorShapeProto__Output | null);
  'stringVal': (Buffer)[];
}
