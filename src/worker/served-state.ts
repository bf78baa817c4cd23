/** The checkpoint from which a run goes on, from the coordinator, where no worker sees the run folder. */
import { status } from '@grpc/grpc-js';
import { type CheckpointManifest, decodeManifest } from '../checkpoint/manifest.js';
import { OrchestratorError } from '../errors.js';
import { connectStreams, type PulledCall, type Receiver, StatusError } from '../rpc/grpc-client.js';
import type { Link } from '../rpc/links.js';
import { Coordinator } from '../rpc/proto.js';
import { ExchangeBroken } from './collective/collective.js';
import { piecesReceiver, type StateMemory, stateShare } from './state-transfer.js';

const { path, requestSerialize } = Coordinator.service.State;
const CONNECT_MS = 60_000;
/** Largest manifest that is taken. */
const MOST_BYTES = 16 << 20;

/**
 * Receives the state of the checkpoint of `step` into the engine.
 *
 * @param signal Ends it: nothing more is written into the engine, and its reason is thrown.
 * @param check Is given the manifest before its state is used, and throws if it does not belong to the run.
 * @throws OrchestratorError ERR_CHECKPOINT_DAMAGED if the coordinator finds it damaged, ERR_EXCHANGE if it does not send
 *   it or is gone; what was held before is overwritten by then.
 */
export async function receiveCheckpoint(
  engine: StateMemory,
  ema: boolean,
  step: number,
  { coordinator, signal }: { coordinator: Link; signal: AbortSignal },
  check: (manifest: CheckpointManifest) => void,
): Promise<void> {
  const pieces = await stateShare(engine, ema, 0, 1);
  const failed = (error: unknown) => {
    const why = `The checkpoint of step ${step} did not come from the coordinator: ${(error as Error).message}`;
    if (error instanceof StatusError && error.code === status.DATA_LOSS) {
      return new OrchestratorError('ERR_CHECKPOINT_DAMAGED', why);
    }
    return error instanceof OrchestratorError ? error : new ExchangeBroken(-1, why, error as Error);
  };
  const onManifest = (text: string) => check(decodeManifest(text, `the checkpoint of step ${step}`));
  try {
    const client = await connectStreams(coordinator, path, CONNECT_MS, signal);
    try {
      await pulled(signal, (over) =>
        client.pull(requestSerialize({ step }), checkpointReceiver(pieces, onManifest, over)),
      );
    } finally {
      client.close();
    }
  } catch (error) {
    throw signal.aborted ? signal.reason : failed(error);
  }
  signal.throwIfAborted();
  await engine.parametersChanged();
}

/** Waits for a call until it is over, or until the signal cancels it. */
async function pulled(
  signal: AbortSignal,
  pull: (over: (error: unknown) => void) => PulledCall,
): Promise<void> {
  signal.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const call = pull((error) => (error === null ? resolve() : reject(error)));
    // The next generation may write into the same memory.
    const cancel = () => {
      call.cancel();
      reject(signal.reason);
    };
    signal.addEventListener('abort', cancel, { once: true });
  });
}

/** @param over Called once, with null when all has come. */
function checkpointReceiver(
  pieces: readonly Float32Array[],
  onManifest: (text: string) => void,
  over: (error: unknown) => void,
): Receiver {
  const state = piecesReceiver(pieces, over);
  let manifest: Uint8Array | null = null;
  let isChecked = false;
  return {
    open: (bytes) => {
      if (manifest !== null) return state.open(bytes);
      if (bytes > MOST_BYTES) throw new Error(`a manifest of ${bytes} bytes`);
      manifest = new Uint8Array(bytes);
      return manifest;
    },
    close: () => {
      if (isChecked) return state.close();
      isChecked = true;
      onManifest(Buffer.from(manifest!).toString());
      return true;
    },
    ended: state.ended,
  };
}
