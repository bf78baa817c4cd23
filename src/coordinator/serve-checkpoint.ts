/** The checkpoint from which a run goes on, for a worker that does not see the run folder. */
import { once } from 'node:events';
import { join } from 'node:path';
import { type ServerWritableStream, status } from '@grpc/grpc-js';
import { MANIFEST } from '../checkpoint/manifest.js';
import { checkpointPieces } from '../checkpoint/state-stream.js';
import { verifyCheckpoint } from '../checkpoint/store.js';
import { faultOf } from '../fault.js';
import { textOrNull } from '../files/io.js';
import type { StateRequest } from '../rpc/proto.js';
import type { Beginning } from '../rule/source.js';

/** Messages are bytes as they are. */
export type StateCall = ServerWritableStream<StateRequest, Buffer>;

/**
 * Sends the manifest of the last checkpoint, and then its state. The call ends with DATA_LOSS if the checkpoint is
 * damaged or incomplete, with FAILED_PRECONDITION if it is not that of the step, and with INTERNAL if it cannot be read.
 *
 * @param ema Whether the run has an EMA.
 */
export async function serveCheckpoint(
  call: StateCall,
  { step, path }: Beginning,
  ema: boolean,
): Promise<void> {
  // Who asked may be gone: nobody is told then.
  call.on('error', () => {});
  try {
    if (path === '' || call.request.step !== step) {
      const details = `there is no checkpoint of step ${call.request.step} here`;
      call.emit('error', { code: status.FAILED_PRECONDITION, details });
      return;
    }
    const manifest = await verifyCheckpoint(path);
    await send(call, Buffer.from(textOrNull(join(path, MANIFEST)) ?? ''));
    for await (const { buffer, byteOffset, byteLength } of checkpointPieces(path, manifest, ema)) {
      if (call.cancelled) return;
      await send(call, Buffer.from(buffer, byteOffset, byteLength));
    }
    call.end();
  } catch (error) {
    const { code, message } = faultOf(error);
    const isDamaged = code === 'ERR_CHECKPOINT_DAMAGED' || code === 'ERR_CHECKPOINT_MISSING';
    call.emit('error', { code: isDamaged ? status.DATA_LOSS : status.INTERNAL, details: message });
  }
}

async function send(call: StateCall, bytes: Buffer): Promise<void> {
  if (call.write(bytes)) return;
  const over = new AbortController();
  const cancelled = () => over.abort(new Error('the call was cancelled'));
  call.once('cancelled', cancelled);
  try {
    await once(call, 'drain', { signal: over.signal });
  } finally {
    call.off('cancelled', cancelled);
  }
}
