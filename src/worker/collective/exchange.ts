/**
 * One worker's part of a step's all-reduce, without the network: what it sends, what it expects, and the
 * summing of the slices that it owns. A chunk is summed along the tree as soon as all its parts have arrived.
 */
import { OrchestratorError } from '../../errors.js';
import type { AddInto, BucketInfo } from '../../native/contract.js';
import { localSubtrees, type Part, type Range, sumTree } from '../../step/tree.js';
import type { Gradients } from './collective.js';
import { CHUNK_ELEMENTS, type Chunk, chunksOf } from './slices.js';

export type ExchangeLayout = ReturnType<typeof exchangeLayout>;

/** Which rank sums and sends what; constant within a generation. `slots`: of every rank. */
export function exchangeLayout(
  rank: number,
  slots: readonly Range[],
  buckets: readonly BucketInfo[],
  addInto: AddInto,
) {
  const totalSlots = slots.at(-1)?.hi ?? 0;
  return {
    rank,
    totalSlots,
    /** By rank, the nodes of the summation tree that it sums alone, ascending. */
    nodes: slots.map(({ lo, hi }) => localSubtrees(lo, hi, totalSlots)),
    /** By rank, the chunks that it owns. */
    chunks: slots.map((_, r) => chunksOf(buckets, r, slots.length)),
    addInto,
    /** Reused buffers for received parts, of one chunk each. */
    pool: [] as Float32Array[],
  };
}

/** The receiving end of one stream of a peer. */
interface Incoming {
  /** Memory for the next message. */
  open(bytes: number): Uint8Array;
  /** That message is complete. */
  close(): void;
  /** Whether the sender is close enough to the summing to continue. */
  mayContinue(): boolean;
  /** Whether everything has arrived. */
  complete(): boolean;
}

/** Backpressure: chunks whose received parts may wait to be summed before the sender is paused. */
const MAX_WAITING_CHUNKS = 8;

export class StepExchange {
  readonly step: number;
  bytesReceived = 0;
  readonly #layout: ExchangeLayout;
  readonly #gradients: Gradients;
  /** This worker's gradients of the step; null before the first bucket is announced. */
  #gradient: ReturnType<typeof localGradient> | null = null;
  /** Buckets announced so far. */
  #announced = 0;
  /** Number of this worker's chunks that have been summed. */
  #summed = 0;
  /** Chunks of all ranks whose global sum is not in its place yet. */
  #missing: number;
  /** By chunk of this worker, the parts received. */
  readonly #received: Part<Float32Array>[][];
  /** Streams of this step that peers have not read to the end. */
  #undelivered: number;
  #wake: (() => void)[] = [];
  #failure: Error | null = null;

  constructor(layout: ExchangeLayout, step: number, gradients: Gradients) {
    this.step = step;
    this.#layout = layout;
    this.#gradients = gradients;
    this.#missing = layout.chunks.flat().length;
    this.#undelivered = 2 * (layout.chunks.length - 1);
    this.#received = this.#ownChunks.map(() => []);
  }

  /**
   * The local sums of this bucket are complete. The engine has nobody to throw to: what goes wrong here fails
   * the exchange.
   */
  announce(bucket: number): void {
    try {
      if (bucket !== this.#announced) {
        const message = `bucket ${bucket} was announced, but ${this.#announced} was expected`;
        throw new OrchestratorError('ERR_INTERNAL', message);
      }
      this.#gradient ??= localGradient(this.#gradients, this.#layout);
      this.#announced++;
      this.#sumReady();
      this.#notify();
    } catch (error) {
      this.fail(error as Error);
    }
  }

  /** The PART stream for peer `rank`: its chunks of all local sums. */
  async *partsFor(rank: number): AsyncGenerator<Float32Array> {
    for (const chunk of this.#layout.chunks[rank]!) {
      while (this.#announced <= chunk.bucket) await this.change();
      for (const part of this.#gradient!.parts) yield view(part.buckets, chunk);
    }
  }

  /** The RESULT stream for every peer: this worker's chunks, summed. */
  async *results(): AsyncGenerator<Float32Array> {
    for (const [index, chunk] of this.#ownChunks.entries()) {
      while (this.#summed <= index) await this.change();
      yield view(this.#gradient!.sum, chunk);
    }
  }

  /** Receives the PART stream of `rank`: its local sums of this worker's chunks. */
  receiveParts(rank: number): Incoming {
    const nodes = this.#layout.nodes[rank]!;
    let messages = 0;
    let arriving: Float32Array;
    const index = () => Math.floor(messages / nodes.length);
    return {
      open: (bytes) => {
        this.#expect(rank, bytes, this.#ownChunks[index()]);
        arriving = this.#layout.pool.pop() ?? new Float32Array(CHUNK_ELEMENTS);
        return new Uint8Array(arriving.buffer, 0, bytes);
      },
      close: () => {
        this.#received[index()]!.push({ ...nodes[messages % nodes.length]!, data: arriving });
        messages++;
        this.#sumReady();
      },
      mayContinue: () => index() - this.#summed < MAX_WAITING_CHUNKS,
      complete: () => index() === this.#ownChunks.length,
    };
  }

  /** Receives the RESULT stream of `rank`: its chunks, into their places in the global sum. */
  receiveResults(rank: number): Incoming {
    const chunks = this.#layout.chunks[rank]!;
    let messages = 0;
    return {
      open: (bytes) => {
        const chunk = chunks[messages];
        this.#expect(rank, bytes, chunk);
        if (this.#gradient === null) {
          const message = `Rank ${rank} sent a sum before this worker sent its part`;
          throw new OrchestratorError('ERR_EXCHANGE', message);
        }
        const target = view(this.#gradient.sum, chunk);
        return new Uint8Array(target.buffer, target.byteOffset, bytes);
      },
      close: () => {
        messages++;
        this.#missing--;
        this.#notify();
      },
      mayContinue: () => true,
      complete: () => messages === chunks.length,
    };
  }

  /** Resolves when every chunk of the global sum is in its place. */
  async finished(): Promise<void> {
    while (this.#missing > 0) await this.change();
  }

  /** A peer has read one of its two streams to the end. */
  delivered(): void {
    this.#undelivered--;
    this.#notify();
  }

  /** Resolves when no peer reads this worker's gradient any more. */
  async allDelivered(): Promise<void> {
    while (this.#undelivered > 0) await this.change();
  }

  /** Rejects every wait with this error. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#notify();
  }

  get #ownChunks(): readonly Chunk[] {
    return this.#layout.chunks[this.#layout.rank]!;
  }

  #expect(rank: number, bytes: number, chunk: Chunk | undefined): asserts chunk is Chunk {
    this.bytesReceived += bytes;
    if (chunk !== undefined && bytes === chunk.length * 4) return;
    const expected = chunk === undefined ? 'the end of the stream' : `${chunk.length * 4} bytes`;
    const message = `Rank ${rank} sent ${bytes} bytes at step ${this.step}, expected ${expected}`;
    throw new OrchestratorError('ERR_EXCHANGE', message);
  }

  /** Sums this worker's chunks in order, as far as their parts have arrived. */
  #sumReady(): void {
    const { rank, nodes } = this.#layout;
    const remote = nodes.flat().length - nodes[rank]!.length;
    for (;;) {
      const chunk = this.#ownChunks[this.#summed];
      if (chunk === undefined || chunk.bucket >= this.#announced) return;
      const received = this.#received[this.#summed]!;
      if (received.length < remote) return;
      this.#sum(chunk, received);
      this.#summed++;
      this.#missing--;
      this.#notify();
    }
  }

  #sum(chunk: Chunk, received: Part<Float32Array>[]): void {
    const { addInto, totalSlots, pool } = this.#layout;
    const { parts, sum } = this.#gradient!;
    const target = view(sum, chunk);
    const own = parts.map(({ lo, hi, buckets }) => ({ lo, hi, data: view(buckets, chunk) }));
    const remote = received.map(({ lo, hi, data }) => ({ lo, hi, data: data.subarray(0, chunk.length) }));
    sumTree([...own, ...remote], totalSlots, (a, b) => {
      // The target is the memory of an own part, and must hold the result. Either order gives the same bits.
      const [into, from] = b.buffer === target.buffer && b.byteOffset === target.byteOffset ? [b, a] : [a, b];
      addInto(into, from);
      return into;
    });
    for (const { data } of received) pool.push(data);
  }

  /** Resolves at the next change of the state. */
  change(): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#wake.push(() => (this.#failure === null ? resolve() : reject(this.#failure)));
    });
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = [];
    for (const resume of wake) resume();
  }
}

function view(buckets: readonly Float32Array[], { bucket, offset, length }: Chunk): Float32Array {
  return buckets[bucket]!.subarray(offset, offset + length);
}

/** This worker's sums over its slots, ascending, and by bucket the memory of the first, for the global sum. */
function localGradient(gradients: Gradients, { rank, nodes }: ExchangeLayout) {
  const [parts, sum, expected] = [gradients.gradientParts(), gradients.gradient(), nodes[rank]!];
  const text = (ranges: readonly Range[]) => ranges.map(({ lo, hi }) => `[${lo}, ${hi})`).join(' ');
  if (text(parts) === text(expected)) return { parts, sum };
  throw new OrchestratorError(
    'ERR_INTERNAL',
    `the engine holds sums over slots ${text(parts)}, but the tree has ${text(expected)}`,
  );
}
