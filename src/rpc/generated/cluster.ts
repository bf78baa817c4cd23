import type * as grpc from '@grpc/grpc-js';
import type { MessageTypeDefinition } from '@grpc/proto-loader';

import type { Applied as _orchestrator_v1_Applied, Applied__Output as _orchestrator_v1_Applied__Output } from './orchestrator/v1/Applied.js';
import type { AttentionStatistic as _orchestrator_v1_AttentionStatistic, AttentionStatistic__Output as _orchestrator_v1_AttentionStatistic__Output } from './orchestrator/v1/AttentionStatistic.js';
import type { Chunk as _orchestrator_v1_Chunk, Chunk__Output as _orchestrator_v1_Chunk__Output } from './orchestrator/v1/Chunk.js';
import type { CoordinatorClient as _orchestrator_v1_CoordinatorClient, CoordinatorDefinition as _orchestrator_v1_CoordinatorDefinition } from './orchestrator/v1/Coordinator.js';
import type { Credential as _orchestrator_v1_Credential, Credential__Output as _orchestrator_v1_Credential__Output } from './orchestrator/v1/Credential.js';
import type { Declined as _orchestrator_v1_Declined, Declined__Output as _orchestrator_v1_Declined__Output } from './orchestrator/v1/Declined.js';
import type { DeviceRendezvous as _orchestrator_v1_DeviceRendezvous, DeviceRendezvous__Output as _orchestrator_v1_DeviceRendezvous__Output } from './orchestrator/v1/DeviceRendezvous.js';
import type { Drain as _orchestrator_v1_Drain, Drain__Output as _orchestrator_v1_Drain__Output } from './orchestrator/v1/Drain.js';
import type { Failure as _orchestrator_v1_Failure, Failure__Output as _orchestrator_v1_Failure__Output } from './orchestrator/v1/Failure.js';
import type { Finished as _orchestrator_v1_Finished, Finished__Output as _orchestrator_v1_Finished__Output } from './orchestrator/v1/Finished.js';
import type { Form as _orchestrator_v1_Form, Form__Output as _orchestrator_v1_Form__Output } from './orchestrator/v1/Form.js';
import type { Formed as _orchestrator_v1_Formed, Formed__Output as _orchestrator_v1_Formed__Output } from './orchestrator/v1/Formed.js';
import type { FromCoordinator as _orchestrator_v1_FromCoordinator, FromCoordinator__Output as _orchestrator_v1_FromCoordinator__Output } from './orchestrator/v1/FromCoordinator.js';
import type { FromWorker as _orchestrator_v1_FromWorker, FromWorker__Output as _orchestrator_v1_FromWorker__Output } from './orchestrator/v1/FromWorker.js';
import type { Heartbeat as _orchestrator_v1_Heartbeat, Heartbeat__Output as _orchestrator_v1_Heartbeat__Output } from './orchestrator/v1/Heartbeat.js';
import type { Held as _orchestrator_v1_Held, Held__Output as _orchestrator_v1_Held__Output } from './orchestrator/v1/Held.js';
import type { Holders as _orchestrator_v1_Holders, Holders__Output as _orchestrator_v1_Holders__Output } from './orchestrator/v1/Holders.js';
import type { Initialise as _orchestrator_v1_Initialise, Initialise__Output as _orchestrator_v1_Initialise__Output } from './orchestrator/v1/Initialise.js';
import type { Invitation as _orchestrator_v1_Invitation, Invitation__Output as _orchestrator_v1_Invitation__Output } from './orchestrator/v1/Invitation.js';
import type { Join as _orchestrator_v1_Join, Join__Output as _orchestrator_v1_Join__Output } from './orchestrator/v1/Join.js';
import type { Keep as _orchestrator_v1_Keep, Keep__Output as _orchestrator_v1_Keep__Output } from './orchestrator/v1/Keep.js';
import type { Leave as _orchestrator_v1_Leave, Leave__Output as _orchestrator_v1_Leave__Output } from './orchestrator/v1/Leave.js';
import type { Member as _orchestrator_v1_Member, Member__Output as _orchestrator_v1_Member__Output } from './orchestrator/v1/Member.js';
import type { NonFinite as _orchestrator_v1_NonFinite, NonFinite__Output as _orchestrator_v1_NonFinite__Output } from './orchestrator/v1/NonFinite.js';
import type { NotSaved as _orchestrator_v1_NotSaved, NotSaved__Output as _orchestrator_v1_NotSaved__Output } from './orchestrator/v1/NotSaved.js';
import type { Offered as _orchestrator_v1_Offered, Offered__Output as _orchestrator_v1_Offered__Output } from './orchestrator/v1/Offered.js';
import type { Orders as _orchestrator_v1_Orders, Orders__Output as _orchestrator_v1_Orders__Output } from './orchestrator/v1/Orders.js';
import type { PeerClient as _orchestrator_v1_PeerClient, PeerDefinition as _orchestrator_v1_PeerDefinition } from './orchestrator/v1/Peer.js';
import type { Prepared as _orchestrator_v1_Prepared, Prepared__Output as _orchestrator_v1_Prepared__Output } from './orchestrator/v1/Prepared.js';
import type { PullRequest as _orchestrator_v1_PullRequest, PullRequest__Output as _orchestrator_v1_PullRequest__Output } from './orchestrator/v1/PullRequest.js';
import type { Ready as _orchestrator_v1_Ready, Ready__Output as _orchestrator_v1_Ready__Output } from './orchestrator/v1/Ready.js';
import type { Saved as _orchestrator_v1_Saved, Saved__Output as _orchestrator_v1_Saved__Output } from './orchestrator/v1/Saved.js';
import type { Saving as _orchestrator_v1_Saving, Saving__Output as _orchestrator_v1_Saving__Output } from './orchestrator/v1/Saving.js';
import type { Served as _orchestrator_v1_Served, Served__Output as _orchestrator_v1_Served__Output } from './orchestrator/v1/Served.js';
import type { Sharing as _orchestrator_v1_Sharing, Sharing__Output as _orchestrator_v1_Sharing__Output } from './orchestrator/v1/Sharing.js';
import type { SlotReport as _orchestrator_v1_SlotReport, SlotReport__Output as _orchestrator_v1_SlotReport__Output } from './orchestrator/v1/SlotReport.js';
import type { Standby as _orchestrator_v1_Standby, Standby__Output as _orchestrator_v1_Standby__Output } from './orchestrator/v1/Standby.js';
import type { StateRequest as _orchestrator_v1_StateRequest, StateRequest__Output as _orchestrator_v1_StateRequest__Output } from './orchestrator/v1/StateRequest.js';
import type { Stop as _orchestrator_v1_Stop, Stop__Output as _orchestrator_v1_Stop__Output } from './orchestrator/v1/Stop.js';
import type { Suspect as _orchestrator_v1_Suspect, Suspect__Output as _orchestrator_v1_Suspect__Output } from './orchestrator/v1/Suspect.js';
import type { Sync as _orchestrator_v1_Sync, Sync__Output as _orchestrator_v1_Sync__Output } from './orchestrator/v1/Sync.js';
import type { Validated as _orchestrator_v1_Validated, Validated__Output as _orchestrator_v1_Validated__Output } from './orchestrator/v1/Validated.js';
import type { ValidationLoss as _orchestrator_v1_ValidationLoss, ValidationLoss__Output as _orchestrator_v1_ValidationLoss__Output } from './orchestrator/v1/ValidationLoss.js';
import type { Waiting as _orchestrator_v1_Waiting, Waiting__Output as _orchestrator_v1_Waiting__Output } from './orchestrator/v1/Waiting.js';
import type { Welcome as _orchestrator_v1_Welcome, Welcome__Output as _orchestrator_v1_Welcome__Output } from './orchestrator/v1/Welcome.js';

type SubtypeConstructor<Constructor extends new (...args: any) => any, Subtype> = {
  new(...args: ConstructorParameters<Constructor>): Subtype;
};

export interface ProtoGrpcType {
  orchestrator: {
    v1: {
      Applied: MessageTypeDefinition<_orchestrator_v1_Applied, _orchestrator_v1_Applied__Output>
      AttentionStatistic: MessageTypeDefinition<_orchestrator_v1_AttentionStatistic, _orchestrator_v1_AttentionStatistic__Output>
      Chunk: MessageTypeDefinition<_orchestrator_v1_Chunk, _orchestrator_v1_Chunk__Output>
      Coordinator: SubtypeConstructor<typeof grpc.Client, _orchestrator_v1_CoordinatorClient> & { service: _orchestrator_v1_CoordinatorDefinition }
      Credential: MessageTypeDefinition<_orchestrator_v1_Credential, _orchestrator_v1_Credential__Output>
      Declined: MessageTypeDefinition<_orchestrator_v1_Declined, _orchestrator_v1_Declined__Output>
      DeviceRendezvous: MessageTypeDefinition<_orchestrator_v1_DeviceRendezvous, _orchestrator_v1_DeviceRendezvous__Output>
      Drain: MessageTypeDefinition<_orchestrator_v1_Drain, _orchestrator_v1_Drain__Output>
      Failure: MessageTypeDefinition<_orchestrator_v1_Failure, _orchestrator_v1_Failure__Output>
      Finished: MessageTypeDefinition<_orchestrator_v1_Finished, _orchestrator_v1_Finished__Output>
      Form: MessageTypeDefinition<_orchestrator_v1_Form, _orchestrator_v1_Form__Output>
      Formed: MessageTypeDefinition<_orchestrator_v1_Formed, _orchestrator_v1_Formed__Output>
      FromCoordinator: MessageTypeDefinition<_orchestrator_v1_FromCoordinator, _orchestrator_v1_FromCoordinator__Output>
      FromWorker: MessageTypeDefinition<_orchestrator_v1_FromWorker, _orchestrator_v1_FromWorker__Output>
      Heartbeat: MessageTypeDefinition<_orchestrator_v1_Heartbeat, _orchestrator_v1_Heartbeat__Output>
      Held: MessageTypeDefinition<_orchestrator_v1_Held, _orchestrator_v1_Held__Output>
      Holders: MessageTypeDefinition<_orchestrator_v1_Holders, _orchestrator_v1_Holders__Output>
      Initialise: MessageTypeDefinition<_orchestrator_v1_Initialise, _orchestrator_v1_Initialise__Output>
      Invitation: MessageTypeDefinition<_orchestrator_v1_Invitation, _orchestrator_v1_Invitation__Output>
      Join: MessageTypeDefinition<_orchestrator_v1_Join, _orchestrator_v1_Join__Output>
      Keep: MessageTypeDefinition<_orchestrator_v1_Keep, _orchestrator_v1_Keep__Output>
      Leave: MessageTypeDefinition<_orchestrator_v1_Leave, _orchestrator_v1_Leave__Output>
      Member: MessageTypeDefinition<_orchestrator_v1_Member, _orchestrator_v1_Member__Output>
      NonFinite: MessageTypeDefinition<_orchestrator_v1_NonFinite, _orchestrator_v1_NonFinite__Output>
      NotSaved: MessageTypeDefinition<_orchestrator_v1_NotSaved, _orchestrator_v1_NotSaved__Output>
      Offered: MessageTypeDefinition<_orchestrator_v1_Offered, _orchestrator_v1_Offered__Output>
      Orders: MessageTypeDefinition<_orchestrator_v1_Orders, _orchestrator_v1_Orders__Output>
      /**
       * The receiver pulls tensor data (docs/guide/distributed.md). One call transfers the data of one kind for one
       * step from one peer: the slices of all buckets, in the order in which the backward pass completes the
       * buckets, each as soon as it is available. The stream's items are raw bytes (identity serializers), whose order
       * and sizes both sides know; before each is a checksum of 64 bits (native/kernels/kernels.h), lowest byte first.
       */
      Peer: SubtypeConstructor<typeof grpc.Client, _orchestrator_v1_PeerClient> & { service: _orchestrator_v1_PeerDefinition }
      Prepared: MessageTypeDefinition<_orchestrator_v1_Prepared, _orchestrator_v1_Prepared__Output>
      PullRequest: MessageTypeDefinition<_orchestrator_v1_PullRequest, _orchestrator_v1_PullRequest__Output>
      Ready: MessageTypeDefinition<_orchestrator_v1_Ready, _orchestrator_v1_Ready__Output>
      Saved: MessageTypeDefinition<_orchestrator_v1_Saved, _orchestrator_v1_Saved__Output>
      Saving: MessageTypeDefinition<_orchestrator_v1_Saving, _orchestrator_v1_Saving__Output>
      Served: MessageTypeDefinition<_orchestrator_v1_Served, _orchestrator_v1_Served__Output>
      Sharing: MessageTypeDefinition<_orchestrator_v1_Sharing, _orchestrator_v1_Sharing__Output>
      SlotReport: MessageTypeDefinition<_orchestrator_v1_SlotReport, _orchestrator_v1_SlotReport__Output>
      Standby: MessageTypeDefinition<_orchestrator_v1_Standby, _orchestrator_v1_Standby__Output>
      StateRequest: MessageTypeDefinition<_orchestrator_v1_StateRequest, _orchestrator_v1_StateRequest__Output>
      Stop: MessageTypeDefinition<_orchestrator_v1_Stop, _orchestrator_v1_Stop__Output>
      Suspect: MessageTypeDefinition<_orchestrator_v1_Suspect, _orchestrator_v1_Suspect__Output>
      Sync: MessageTypeDefinition<_orchestrator_v1_Sync, _orchestrator_v1_Sync__Output>
      Validated: MessageTypeDefinition<_orchestrator_v1_Validated, _orchestrator_v1_Validated__Output>
      ValidationLoss: MessageTypeDefinition<_orchestrator_v1_ValidationLoss, _orchestrator_v1_ValidationLoss__Output>
      Waiting: MessageTypeDefinition<_orchestrator_v1_Waiting, _orchestrator_v1_Waiting__Output>
      Welcome: MessageTypeDefinition<_orchestrator_v1_Welcome, _orchestrator_v1_Welcome__Output>
    }
  }
}

