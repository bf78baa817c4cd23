// Original file: proto/cluster.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { Chunk as _orchestrator_v1_Chunk, Chunk__Output as _orchestrator_v1_Chunk__Output } from '../../orchestrator/v1/Chunk.js';
import type { Credential as _orchestrator_v1_Credential, Credential__Output as _orchestrator_v1_Credential__Output } from '../../orchestrator/v1/Credential.js';
import type { FromCoordinator as _orchestrator_v1_FromCoordinator, FromCoordinator__Output as _orchestrator_v1_FromCoordinator__Output } from '../../orchestrator/v1/FromCoordinator.js';
import type { FromWorker as _orchestrator_v1_FromWorker, FromWorker__Output as _orchestrator_v1_FromWorker__Output } from '../../orchestrator/v1/FromWorker.js';
import type { Invitation as _orchestrator_v1_Invitation, Invitation__Output as _orchestrator_v1_Invitation__Output } from '../../orchestrator/v1/Invitation.js';
import type { StateRequest as _orchestrator_v1_StateRequest, StateRequest__Output as _orchestrator_v1_StateRequest__Output } from '../../orchestrator/v1/StateRequest.js';

export interface CoordinatorClient extends grpc.Client {
  /**
   * A credential for workers of other machines. Only processes of the coordinator's machine and user may ask.
   */
  Invite(argument: _orchestrator_v1_Invitation, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_orchestrator_v1_Credential__Output>): grpc.ClientUnaryCall;
  Invite(argument: _orchestrator_v1_Invitation, metadata: grpc.Metadata, callback: grpc.requestCallback<_orchestrator_v1_Credential__Output>): grpc.ClientUnaryCall;
  Invite(argument: _orchestrator_v1_Invitation, options: grpc.CallOptions, callback: grpc.requestCallback<_orchestrator_v1_Credential__Output>): grpc.ClientUnaryCall;
  Invite(argument: _orchestrator_v1_Invitation, callback: grpc.requestCallback<_orchestrator_v1_Credential__Output>): grpc.ClientUnaryCall;
  /**
   * A credential for workers of other machines. Only processes of the coordinator's machine and user may ask.
   */
  invite(argument: _orchestrator_v1_Invitation, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_orchestrator_v1_Credential__Output>): grpc.ClientUnaryCall;
  invite(argument: _orchestrator_v1_Invitation, metadata: grpc.Metadata, callback: grpc.requestCallback<_orchestrator_v1_Credential__Output>): grpc.ClientUnaryCall;
  invite(argument: _orchestrator_v1_Invitation, options: grpc.CallOptions, callback: grpc.requestCallback<_orchestrator_v1_Credential__Output>): grpc.ClientUnaryCall;
  invite(argument: _orchestrator_v1_Invitation, callback: grpc.requestCallback<_orchestrator_v1_Credential__Output>): grpc.ClientUnaryCall;
  
  /**
   * A worker joins with its first message, and is a member for as long as the stream is open.
   */
  Session(metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientDuplexStream<_orchestrator_v1_FromWorker, _orchestrator_v1_FromCoordinator__Output>;
  Session(options?: grpc.CallOptions): grpc.ClientDuplexStream<_orchestrator_v1_FromWorker, _orchestrator_v1_FromCoordinator__Output>;
  /**
   * A worker joins with its first message, and is a member for as long as the stream is open.
   */
  session(metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientDuplexStream<_orchestrator_v1_FromWorker, _orchestrator_v1_FromCoordinator__Output>;
  session(options?: grpc.CallOptions): grpc.ClientDuplexStream<_orchestrator_v1_FromWorker, _orchestrator_v1_FromCoordinator__Output>;
  
  /**
   * The checkpoint of a step, for a member that does not see the run folder: its manifest, and then its state. The
   * items are raw bytes, as in Pull.
   */
  State(argument: _orchestrator_v1_StateRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_orchestrator_v1_Chunk__Output>;
  State(argument: _orchestrator_v1_StateRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_orchestrator_v1_Chunk__Output>;
  /**
   * The checkpoint of a step, for a member that does not see the run folder: its manifest, and then its state. The
   * items are raw bytes, as in Pull.
   */
  state(argument: _orchestrator_v1_StateRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_orchestrator_v1_Chunk__Output>;
  state(argument: _orchestrator_v1_StateRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_orchestrator_v1_Chunk__Output>;
  
}

export interface CoordinatorHandlers extends grpc.UntypedServiceImplementation {
  /**
   * A credential for workers of other machines. Only processes of the coordinator's machine and user may ask.
   */
  Invite: grpc.handleUnaryCall<_orchestrator_v1_Invitation__Output, _orchestrator_v1_Credential>;
  
  /**
   * A worker joins with its first message, and is a member for as long as the stream is open.
   */
  Session: grpc.handleBidiStreamingCall<_orchestrator_v1_FromWorker__Output, _orchestrator_v1_FromCoordinator>;
  
  /**
   * The checkpoint of a step, for a member that does not see the run folder: its manifest, and then its state. The
   * items are raw bytes, as in Pull.
   */
  State: grpc.handleServerStreamingCall<_orchestrator_v1_StateRequest__Output, _orchestrator_v1_Chunk>;
  
}

export interface CoordinatorDefinition extends grpc.ServiceDefinition {
  Invite: MethodDefinition<_orchestrator_v1_Invitation, _orchestrator_v1_Credential, _orchestrator_v1_Invitation__Output, _orchestrator_v1_Credential__Output>
  Session: MethodDefinition<_orchestrator_v1_FromWorker, _orchestrator_v1_FromCoordinator, _orchestrator_v1_FromWorker__Output, _orchestrator_v1_FromCoordinator__Output>
  State: MethodDefinition<_orchestrator_v1_StateRequest, _orchestrator_v1_Chunk, _orchestrator_v1_StateRequest__Output, _orchestrator_v1_Chunk__Output>
}
