import type { FromWorker } from '../../src/rpc/proto.js';
import { PROTOCOL } from '../../src/rpc/protocol.js';
import { build } from '../../src/version.js';

/** A worker's first message. */
export const JOIN = {
  protocol: PROTOCOL,
  build: build(),
  workerId: 'a',
  host: 'h',
  pid: 7,
  dataAddress: '127.0.0.1:1',
  localAddress: 'unix-abstract:a',
  machine: 'm',
  sharedMemory: '',
} satisfies FromWorker['join'];
