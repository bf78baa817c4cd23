// Original file: proto/tensorboard.proto


// Original file: proto/tensorboard.proto

export const _tensorboard_SessionLog_SessionStatus = {
  STATUS_UNSPECIFIED: 'STATUS_UNSPECIFIED',
  /**
   * what earlier records say of this step and later ones does not hold any more
   */
  START: 'START',
} as const;

export type _tensorboard_SessionLog_SessionStatus =
  | 'STATUS_UNSPECIFIED'
  | 0
  /**
   * what earlier records say of this step and later ones does not hold any more
   */
  | 'START'
  | 1

export type _tensorboard_SessionLog_SessionStatus__Output = typeof _tensorboard_SessionLog_SessionStatus[keyof typeof _tensorboard_SessionLog_SessionStatus]

export interface SessionLog {
  'status'?: (_tensorboard_SessionLog_SessionStatus);
}

export interface SessionLog__Output {
  'status': (_tensorboard_SessionLog_SessionStatus__Output);
}
