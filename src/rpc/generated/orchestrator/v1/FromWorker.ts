// Original file: proto/cluster.proto

import type { Join as _orchestrator_v1_Join, Join__Output as _orchestrator_v1_Join__Output } from '../../orchestrator/v1/Join.js';
import type { Formed as _orchestrator_v1_Formed, Formed__Output as _orchestrator_v1_Formed__Output } from '../../orchestrator/v1/Formed.js';
import type { Ready as _orchestrator_v1_Ready, Ready__Output as _orchestrator_v1_Ready__Output } from '../../orchestrator/v1/Ready.js';
import type { Prepared as _orchestrator_v1_Prepared, Prepared__Output as _orchestrator_v1_Prepared__Output } from '../../orchestrator/v1/Prepared.js';
import type { Applied as _orchestrator_v1_Applied, Applied__Output as _orchestrator_v1_Applied__Output } from '../../orchestrator/v1/Applied.js';
import type { Validated as _orchestrator_v1_Validated, Validated__Output as _orchestrator_v1_Validated__Output } from '../../orchestrator/v1/Validated.js';
import type { Saved as _orchestrator_v1_Saved, Saved__Output as _orchestrator_v1_Saved__Output } from '../../orchestrator/v1/Saved.js';
import type { Finished as _orchestrator_v1_Finished, Finished__Output as _orchestrator_v1_Finished__Output } from '../../orchestrator/v1/Finished.js';
import type { Heartbeat as _orchestrator_v1_Heartbeat, Heartbeat__Output as _orchestrator_v1_Heartbeat__Output } from '../../orchestrator/v1/Heartbeat.js';
import type { Leave as _orchestrator_v1_Leave, Leave__Output as _orchestrator_v1_Leave__Output } from '../../orchestrator/v1/Leave.js';
import type { Failure as _orchestrator_v1_Failure, Failure__Output as _orchestrator_v1_Failure__Output } from '../../orchestrator/v1/Failure.js';
import type { Standby as _orchestrator_v1_Standby, Standby__Output as _orchestrator_v1_Standby__Output } from '../../orchestrator/v1/Standby.js';
import type { NotSaved as _orchestrator_v1_NotSaved, NotSaved__Output as _orchestrator_v1_NotSaved__Output } from '../../orchestrator/v1/NotSaved.js';
import type { Saving as _orchestrator_v1_Saving, Saving__Output as _orchestrator_v1_Saving__Output } from '../../orchestrator/v1/Saving.js';
import type { Suspect as _orchestrator_v1_Suspect, Suspect__Output as _orchestrator_v1_Suspect__Output } from '../../orchestrator/v1/Suspect.js';
import type { Offered as _orchestrator_v1_Offered, Offered__Output as _orchestrator_v1_Offered__Output } from '../../orchestrator/v1/Offered.js';
import type { Long } from '@grpc/proto-loader';

export interface FromWorker {
  'generation'?: (number | string | Long);
  'join'?: (_orchestrator_v1_Join | null);
  'formed'?: (_orchestrator_v1_Formed | null);
  'ready'?: (_orchestrator_v1_Ready | null);
  'prepared'?: (_orchestrator_v1_Prepared | null);
  'applied'?: (_orchestrator_v1_Applied | null);
  'validated'?: (_orchestrator_v1_Validated | null);
  'saved'?: (_orchestrator_v1_Saved | null);
  'finished'?: (_orchestrator_v1_Finished | null);
  'heartbeat'?: (_orchestrator_v1_Heartbeat | null);
  'leave'?: (_orchestrator_v1_Leave | null);
  'failure'?: (_orchestrator_v1_Failure | null);
  'standby'?: (_orchestrator_v1_Standby | null);
  'notSaved'?: (_orchestrator_v1_NotSaved | null);
  'saving'?: (_orchestrator_v1_Saving | null);
  'suspect'?: (_orchestrator_v1_Suspect | null);
  'offered'?: (_orchestrator_v1_Offered | null);
  'message'?: "join"|"formed"|"ready"|"prepared"|"applied"|"validated"|"saved"|"finished"|"heartbeat"|"leave"|"failure"|"standby"|"notSaved"|"saving"|"suspect"|"offered";
}

export interface FromWorker__Output {
  'generation': (number);
  'join'?: (_orchestrator_v1_Join__Output | null);
  'formed'?: (_orchestrator_v1_Formed__Output | null);
  'ready'?: (_orchestrator_v1_Ready__Output | null);
  'prepared'?: (_orchestrator_v1_Prepared__Output | null);
  'applied'?: (_orchestrator_v1_Applied__Output | null);
  'validated'?: (_orchestrator_v1_Validated__Output | null);
  'saved'?: (_orchestrator_v1_Saved__Output | null);
  'finished'?: (_orchestrator_v1_Finished__Output | null);
  'heartbeat'?: (_orchestrator_v1_Heartbeat__Output | null);
  'leave'?: (_orchestrator_v1_Leave__Output | null);
  'failure'?: (_orchestrator_v1_Failure__Output | null);
  'standby'?: (_orchestrator_v1_Standby__Output | null);
  'notSaved'?: (_orchestrator_v1_NotSaved__Output | null);
  'saving'?: (_orchestrator_v1_Saving__Output | null);
  'suspect'?: (_orchestrator_v1_Suspect__Output | null);
  'offered'?: (_orchestrator_v1_Offered__Output | null);
  'message'?: "join"|"formed"|"ready"|"prepared"|"applied"|"validated"|"saved"|"finished"|"heartbeat"|"leave"|"failure"|"standby"|"notSaved"|"saving"|"suspect"|"offered";
}
