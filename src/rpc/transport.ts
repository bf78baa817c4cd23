/** Options of a run's gRPC channels and servers. */
import { type ChannelOptions, logVerbosity, setLogVerbosity } from '@grpc/grpc-js';
import { CONTROL_MESSAGE_BYTES } from './message-size.js';

// grpc-js logs to stderr; everything that matters also arrives as an error.
if (process.env.GRPC_VERBOSITY === undefined) setLogVerbosity(logVerbosity.NONE);

/** Memory that HTTP/2 may use for one connection of the control plane, beside the messages. */
const CONTROL_SESSION_MEGABYTES = 32;

export const controlOptions: ChannelOptions = {
  // Loopback traffic must not go through a proxy from the environment.
  'grpc.enable_http_proxy': 0,
  'grpc-node.max_session_memory': CONTROL_SESSION_MEGABYTES,
  'grpc.max_receive_message_length': CONTROL_MESSAGE_BYTES,
  'grpc.max_send_message_length': CONTROL_MESSAGE_BYTES,
};
