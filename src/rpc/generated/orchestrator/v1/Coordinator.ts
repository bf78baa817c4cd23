// Original file: proto/cluster.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { FromCoordinator as _orchestrator_v1_FromCoordinator, FromCoordinator__Output as _orchestrator_v1_FromCoordinator__Output } from '../../orchestrator/v1/FromCoordinator.js';
import type { FromWorker as _orchestrator_v1_FromWorker, FromWorker__Output as _orchestrator_v1_FromWorker__Output } from '../../orchestrator/v1/FromWorker.js';

export interface CoordinatorClient extends grpc.Client {
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
  
}

export interface CoordinatorHandlers extends grpc.UntypedServiceImplementation {
  /**
   * A worker joins with its first message, and is a member for as long as the stream is open.
   */
  Session: grpc.handleBidiStreamingCall<_orchestrator_v1_FromWorker__Output, _orchestrator_v1_FromCoordinator>;
  
}

export interface CoordinatorDefinition extends grpc.ServiceDefinition {
  Session: MethodDefinition<_orchestrator_v1_FromWorker, _orchestrator_v1_FromCoordinator, _orchestrator_v1_FromWorker__Output, _orchestrator_v1_FromCoordinator__Output>
}
