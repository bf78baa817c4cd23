// Original file: proto/cluster.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { Chunk as _orchestrator_v1_Chunk, Chunk__Output as _orchestrator_v1_Chunk__Output } from '../../orchestrator/v1/Chunk.js';
import type { PullRequest as _orchestrator_v1_PullRequest, PullRequest__Output as _orchestrator_v1_PullRequest__Output } from '../../orchestrator/v1/PullRequest.js';

/**
 * The receiver pulls tensor data (docs/guide/distributed.md). One call transfers the data of one kind for one
 * step from one peer: the slices of all buckets, in the order in which the backward pass completes the
 * buckets, each as soon as it is available. The stream's items are raw bytes (identity serializers), whose order
 * and sizes both sides know; before each is a checksum of 64 bits (native/kernels/kernels.h), lowest byte first.
 */
export interface PeerClient extends grpc.Client {
  Pull(argument: _orchestrator_v1_PullRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_orchestrator_v1_Chunk__Output>;
  Pull(argument: _orchestrator_v1_PullRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_orchestrator_v1_Chunk__Output>;
  pull(argument: _orchestrator_v1_PullRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_orchestrator_v1_Chunk__Output>;
  pull(argument: _orchestrator_v1_PullRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_orchestrator_v1_Chunk__Output>;
  
}

/**
 * The receiver pulls tensor data (docs/guide/distributed.md). One call transfers the data of one kind for one
 * step from one peer: the slices of all buckets, in the order in which the backward pass completes the
 * buckets, each as soon as it is available. The stream's items are raw bytes (identity serializers), whose order
 * and sizes both sides know; before each is a checksum of 64 bits (native/kernels/kernels.h), lowest byte first.
 */
export interface PeerHandlers extends grpc.UntypedServiceImplementation {
  Pull: grpc.handleServerStreamingCall<_orchestrator_v1_PullRequest__Output, _orchestrator_v1_Chunk>;
  
}

export interface PeerDefinition extends grpc.ServiceDefinition {
  Pull: MethodDefinition<_orchestrator_v1_PullRequest, _orchestrator_v1_Chunk, _orchestrator_v1_PullRequest__Output, _orchestrator_v1_Chunk__Output>
}
