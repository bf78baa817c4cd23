/** Options of a run's gRPC channels and servers. */
import { type ChannelOptions, logVerbosity, setLogVerbosity } from '@grpc/grpc-js';

// grpc-js logs to stderr; everything that matters also arrives as an error.
if (process.env.GRPC_VERBOSITY === undefined) setLogVerbosity(logVerbosity.NONE);

/**
 * Largest message of the control plane. A Prepared of 4,096 samples takes about 100 KB. The coordinator reads a message
 * in one turn of its event loop, in which it serves nobody else.
 */
const CONTROL_MESSAGE_BYTES = 4 * 1024 * 1024;

/** Memory that HTTP/2 may use for one connection of the control plane, beside the messages. */
const CONTROL_SESSION_MEGABYTES = 32;

export const controlOptions: ChannelOptions = {
  // Loopback traffic must not go through a proxy from the environment.
  'grpc.enable_http_proxy': 0,
  'grpc-node.max_session_memory': CONTROL_SESSION_MEGABYTES,
  'grpc.max_receive_message_length': CONTROL_MESSAGE_BYTES,
  'grpc.max_send_message_length': CONTROL_MESSAGE_BYTES,
};
