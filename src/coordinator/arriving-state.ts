/** A state that arrives in the order of its stream, piece by piece, and is written as it comes. */
import type { StatePiece } from '../checkpoint/state-stream.js';
import { OrchestratorError } from '../errors.js';
import type { StateTensors } from '../native/contract.js';
import type { Receiver } from '../rpc/grpc-client.js';

/** Pieces that wait to be written. */
const MOST_WAITING = 16;

export class ArrivingState implements Receiver {
  readonly #expected: readonly StatePiece[];
  readonly #broke: (why: string) => Error;
  readonly #waiting: Float32Array[] = [];
  #arriving: Float32Array | null = null;
  #arrived = 0;
  #taken = 0;
  #paused = false;
  #broken: Error | null = null;
  #wake = () => {};
  /** Goes on with the call that was paused. */
  resume = () => {};

  /** @param broke Makes the error of those who wait for a state that does not come, from the reason. */
  constructor(expected: readonly StatePiece[], broke: (why: string) => Error) {
    this.#expected = expected;
    this.#broke = broke;
  }

  /** Whether all pieces have come. */
  get isComplete(): boolean {
    return this.#arrived === this.#expected.length;
  }

  open(bytes: number): Uint8Array {
    const piece = this.#expected[this.#arrived];
    const elements = piece === undefined ? 0 : piece.to - piece.from;
    if (piece === undefined || bytes !== 4 * elements) {
      throw new Error(
        `${bytes} bytes came where ${piece === undefined ? 'the end' : 4 * elements} was expected`,
      );
    }
    this.#arriving = new Float32Array(elements);
    return new Uint8Array(this.#arriving.buffer);
  }

  close(): boolean {
    this.#waiting.push(this.#arriving!);
    this.#arrived++;
    this.#wake();
    this.#paused = this.#waiting.length >= MOST_WAITING;
    return !this.#paused;
  }

  ended(error: Error | null): void {
    if (this.isComplete) return;
    this.#broken = this.#broke(error?.message ?? 'the stream ended early');
    this.#wake();
  }

  /** All elements of a tensor. The tensors are asked for in the order of the stream. */
  async tensor(array: string, tensor: string): Promise<Float32Array> {
    const first = this.#taken;
    while (isOf(this.#expected[this.#taken], array, tensor)) this.#taken++;
    const pieces = this.#expected.slice(first, this.#taken);
    if (pieces[0]?.from !== 0) throw new OrchestratorError('ERR_INTERNAL', `${array} ${tensor} is not next`);
    const whole = new Float32Array(pieces.at(-1)!.to);
    for (const { from } of pieces) whole.set(await this.#next(), from);
    return whole;
  }

  /** The same by array and tensor, for those that write a checkpoint. */
  readers(arrays: readonly string[]): StateTensors {
    return new Map(arrays.map((array) => [array, (tensor: string) => this.tensor(array, tensor)]));
  }

  async #next(): Promise<Float32Array> {
    while (this.#waiting.length === 0) {
      if (this.#broken !== null) throw this.#broken;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const piece = this.#waiting.shift()!;
    if (this.#paused && this.#waiting.length < MOST_WAITING / 2) {
      this.#paused = false;
      this.resume();
    }
    return piece;
  }
}

function isOf(piece: StatePiece | undefined, array: string, tensor: string): boolean {
  return piece?.array === array && piece.tensor === tensor;
}
