/**
 * The state of a run from the memory of those that hold it to a worker that does not. It is divided into as many
 * shares as there are holders, and each holder sends one. Nobody computes meanwhile, so it is sent from where
 * it is, and received where it belongs.
 */
import { statePieces } from '../checkpoint/state-stream.js';
import type { Engine } from '../native/contract.js';
import type { Receiver } from '../rpc/grpc-client.js';
import { ExchangeBroken } from './collective/collective.js';

/** What the transfer needs of an engine. */
export type StateMemory = Pick<Engine, 'layout' | 'state' | 'posEmbed' | 'parametersChanged'>;

/** Starts receiving one share of the state after `step` from the member with this rank. */
export type PullShare = (
  from: { rank: number; step: number; share: number; shares: number },
  receiver: Receiver,
) => void;

/** Views of one share of the state, in pieces, the same for sender and receiver. */
export async function stateShare(
  engine: Pick<StateMemory, 'layout' | 'state' | 'posEmbed'>,
  ema: boolean,
  share: number,
  shares: number,
): Promise<Float32Array[]> {
  const positions = engine.posEmbed();
  const pieces = statePieces(engine.layout(), positions.length, ema);
  const bound = (index: number) => Math.floor((index * pieces.length) / shares);
  const own = pieces.slice(bound(share), bound(share + 1));
  return await Promise.all(
    own.map(async ({ array, tensor, from, to }) =>
      (tensor === '' ? positions : await engine.state(array, tensor)).subarray(from, to),
    ),
  );
}

/**
 * Receives the state after `step` into the engine.
 *
 * @param ranks Of its holders.
 * @throws OrchestratorError ERR_EXCHANGE if one of them is lost; what was held before is overwritten by then.
 */
export async function receiveState(
  engine: StateMemory,
  ema: boolean,
  { step, ranks }: { step: number; ranks: readonly number[] },
  pull: PullShare,
): Promise<void> {
  await Promise.all(
    ranks.map(async (rank, share) => {
      const pieces = await stateShare(engine, ema, share, ranks.length);
      await new Promise<void>((resolve, reject) => {
        const receiver = shareReceiver(pieces, rank, (error) => (error === null ? resolve() : reject(error)));
        try {
          pull({ rank, step, share, shares: ranks.length }, receiver);
        } catch (error) {
          receiver.ended(error as Error);
        }
      });
    }),
  );
  await engine.parametersChanged();
}

function shareReceiver(
  pieces: readonly Float32Array[],
  rank: number,
  over: (error: Error | null) => void,
): Receiver {
  const broke = (cause: Error) =>
    new ExchangeBroken(rank, `The state from rank ${rank} did not come: ${cause.message}`, cause);
  return piecesReceiver(pieces, (error) => over(error === null ? null : broke(error)));
}

/** @param over Called once, with null when all pieces have come. */
export function piecesReceiver(
  pieces: readonly Float32Array[],
  over: (error: Error | null) => void,
): Receiver {
  let received = 0;
  return {
    open: (bytes) => {
      const piece = pieces[received];
      if (piece?.byteLength !== bytes) {
        throw new Error(`${bytes} bytes where ${piece?.byteLength ?? 'its end'} was expected`);
      }
      return new Uint8Array(piece.buffer, piece.byteOffset, bytes);
    },
    close: () => {
      received++;
      return true;
    },
    ended: (error) => {
      if (received === pieces.length) over(null);
      else over(error ?? new Error('the stream ended early'));
    },
  };
}
