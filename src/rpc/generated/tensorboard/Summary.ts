// Original file: proto/tensorboard.proto

import type { TensorProto as _tensorboard_TensorProto, TensorProto__Output as _tensorboard_TensorProto__Output } from '../tensorboard/TensorProto.js';
import type { SummaryMetadata as _tensorboard_SummaryMetadata, SummaryMetadata__Output as _tensorboard_SummaryMetadata__Output } from '../tensorboard/SummaryMetadata.js';

export interface _tensorboard_Summary_Value {
  'tag'?: (string);
  'simpleValue'?: (number | string);
  'tensor'?: (_tensorboard_TensorProto | null);
  'metadata'?: (_tensorboard_SummaryMetadata | null);
  'value'?: "simpleValue"|"tensor";
}

export interface _tensorboard_Summary_Value__Output {
  'tag': (string);
  'simpleValue'?: (number);
  'tensor'?: (_tensorboard_TensorProto__Output | null);
  'metadata': (_tensorboard_SummaryMetadata__Output | null);
  'value'?: "simpleValue"|"tensor";
}

export interface Summary {
  'value'?: (_tensorboard_Summary_Value)[];
}

export interface Summary__Output {
  'value': (_tensorboard_Summary_Value__Output)[];
}
