// Original file: proto/tensorboard.proto

export const DataType = {
  DT_INVALID: 'DT_INVALID',
  DT_STRING: 'DT_STRING',
} as const;

export type DataType =
  | 'DT_INVALID'
  | 0
  | 'DT_STRING'
  | 7

export type DataType__Output = typeof DataType[keyof typeof DataType]
