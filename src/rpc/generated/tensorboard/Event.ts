// Original file: proto/tensorboard.proto

import type { Summary as _tensorboard_Summary, Summary__Output as _tensorboard_Summary__Output } from '../tensorboard/Summary.js';
import type { SessionLog as _tensorboard_SessionLog, SessionLog__Output as _tensorboard_SessionLog__Output } from '../tensorboard/SessionLog.js';
import type { Long } from '@grpc/proto-loader';

export interface Event {
  /**
   * seconds since 1970
   */
  'wallTime'?: (number | string);
  'step'?: (number | string | Long);
  /**
   * "brain.Event:2", in the first record of a file
   */
  'fileVersion'?: (string);
  'summary'?: (_tensorboard_Summary | null);
  'sessionLog'?: (_tensorboard_SessionLog | null);
  'what'?: "fileVersion"|"summary"|"sessionLog";
}

export interface Event__Output {
  /**
   * seconds since 1970
   */
  'wallTime': (number);
  'step': (number);
  /**
   * "brain.Event:2", in the first record of a file
   */
  'fileVersion'?: (string);
  'summary'?: (_tensorboard_Summary__Output | null);
  'sessionLog'?: (_tensorboard_SessionLog__Output | null);
  'what'?: "fileVersion"|"summary"|"sessionLog";
}
