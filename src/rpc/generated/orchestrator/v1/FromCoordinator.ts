// Original file: proto/cluster.proto

import type { Welcome as _orchestrator_v1_Welcome, Welcome__Output as _orchestrator_v1_Welcome__Output } from '../../orchestrator/v1/Welcome.js';
import type { Form as _orchestrator_v1_Form, Form__Output as _orchestrator_v1_Form__Output } from '../../orchestrator/v1/Form.js';
import type { Sync as _orchestrator_v1_Sync, Sync__Output as _orchestrator_v1_Sync__Output } from '../../orchestrator/v1/Sync.js';
import type { Orders as _orchestrator_v1_Orders, Orders__Output as _orchestrator_v1_Orders__Output } from '../../orchestrator/v1/Orders.js';
import type { Stop as _orchestrator_v1_Stop, Stop__Output as _orchestrator_v1_Stop__Output } from '../../orchestrator/v1/Stop.js';
import type { Drain as _orchestrator_v1_Drain, Drain__Output as _orchestrator_v1_Drain__Output } from '../../orchestrator/v1/Drain.js';
import type { Waiting as _orchestrator_v1_Waiting, Waiting__Output as _orchestrator_v1_Waiting__Output } from '../../orchestrator/v1/Waiting.js';
import type { Declined as _orchestrator_v1_Declined, Declined__Output as _orchestrator_v1_Declined__Output } from '../../orchestrator/v1/Declined.js';
import type { Long } from '@grpc/proto-loader';

export interface FromCoordinator {
  'generation'?: (number | string | Long);
  'welcome'?: (_orchestrator_v1_Welcome | null);
  'form'?: (_orchestrator_v1_Form | null);
  'sync'?: (_orchestrator_v1_Sync | null);
  'start'?: (_orchestrator_v1_Orders | null);
  'commit'?: (_orchestrator_v1_Orders | null);
  'stop'?: (_orchestrator_v1_Stop | null);
  'drain'?: (_orchestrator_v1_Drain | null);
  'waiting'?: (_orchestrator_v1_Waiting | null);
  'declined'?: (_orchestrator_v1_Declined | null);
  'message'?: "welcome"|"form"|"sync"|"start"|"commit"|"stop"|"drain"|"waiting"|"declined";
}

export interface FromCoordinator__Output {
  'generation': (number);
  'welcome'?: (_orchestrator_v1_Welcome__Output | null);
  'form'?: (_orchestrator_v1_Form__Output | null);
  'sync'?: (_orchestrator_v1_Sync__Output | null);
  'start'?: (_orchestrator_v1_Orders__Output | null);
  'commit'?: (_orchestrator_v1_Orders__Output | null);
  'stop'?: (_orchestrator_v1_Stop__Output | null);
  'drain'?: (_orchestrator_v1_Drain__Output | null);
  'waiting'?: (_orchestrator_v1_Waiting__Output | null);
  'declined'?: (_orchestrator_v1_Declined__Output | null);
  'message'?: "welcome"|"form"|"sync"|"start"|"commit"|"stop"|"drain"|"waiting"|"declined";
}
