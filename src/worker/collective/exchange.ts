/**
 * One worker's part of a step's all-reduce, without the network: what it sends, what it expects, and the
 * summing of the slices that it owns. A chunk is summed along the tree as soon as all its parts have arrived.
 */
import { OrchestratorError } from '../../errors.js';
import type { AddInto, BucketInfo, GradientPart } from '../../native/contract.js';
import { localSubtrees, type Part, type Range, sumTree } from '../../step/tree.js';
import type { Gradients } from './collective.js';
import { CHUNK_ELEMENTS, type Chunk, chunksOf } from './slices.js';

/** Which rank sums and sends what; constant within a generation. */
export interface ExchangeLayout {
  rank: number;
  /** Slots of every rank. */
  slots: readonly Range[];
  totalSlots: number;
  /** By rank, the nodes of the summation tree that it sums alone, ascending. */
  nodes: readonly (readonly Range[])[];
  /** By rank, the chunks that it owns. */
  chunks: readonly (readonly Chunk[])[];
  /** Native addition, dst += src. */
  addInto: AddInto;
  /** Reused buffers for received parts, of one chunk each. */
  pool: Float32Array[];
}

export function exchangeLayout(
  rank: number,
  slots: readonly Range[],
  buckets: readonly BucketInfo[],
  addInto: AddInto,
): ExchangeLayout {
  const totalSlots = slots.at(-1)?.hi ?? 0;
  return {
    rank,
    slots,
    totalSlots,
    nodes: slots.map(({ lo, hi }) => localSubtrees(lo, hi, totalSlots)),
    chunks: slots.map((_, r) => chunksOf(buckets, r, slots.length)),
    addInto,
    pool: [],
  };
}

interface LocalGradient {
  /** Local sums, ascending; see Engine.gradientParts. */
  parts: GradientPart[];
  /** By bucket, the destination of the global sum: the memory of one of the parts. */
  sum: Float32Array[];
}

/** Backpressure: chunks whose received parts may wait to be summed before the sender is paused. */
const MAX_WAITING_CHUNKS = 8;

export class StepExchange {
  readonly step: number;
  bytesReceived = 0;
  readonly #layout: ExchangeLayout;
  readonly #gradients: Gradients;
  /** This worker's gradients of the step; null before the first bucket is announced. */
  #gradient: LocalGradient | null = null;
  /** Buckets announced so far. */
  #announced = 0;
  /** Number of this worker's chunks that have been summed. */
  #summed = 0;
  /** Received parts of this worker's chunks that have not been summed yet. */
  readonly #received = new Map<number, Part<Float32Array>[]>();
  /** By rank, the part that is arriving. */
  readonly #arriving: (Float32Array | null)[];
  /** By rank, the messages received so far on its PART stream, and the chunks on its RESULT stream. */
  readonly #partCursor: number[];
  readonly #resultCursor: number[];
  #wake: (() => void)[] = [];
  #failure: Error | null = null;

  constructor(layout: ExchangeLayout, step: number, gradients: Gradients) {
    this.step = step;
    this.#layout = layout;
    this.#gradients = gradients;
    this.#partCursor = layout.slots.map(() => 0);
    this.#resultCursor = layout.slots.map(() => 0);
    this.#arriving = layout.slots.map(() => null);
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
      this.#gradient ??= this.#localGradient();
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
    const own = this.#layout.chunks[this.#layout.rank]!;
    for (const [index, chunk] of own.entries()) {
      while (this.#summed <= index) await this.change();
      yield view(this.#gradient!.sum, chunk);
    }
  }

  /** Memory for the next message of the PART stream of `rank`. */
  openPart(rank: number, bytes: number): Uint8Array {
    const nodes = this.#layout.nodes[rank]!;
    const chunk = this.#ownChunks[Math.floor(this.#partCursor[rank]! / nodes.length)];
    this.#expect(rank, bytes, chunk);
    const buffer = this.#layout.pool.pop() ?? new Float32Array(CHUNK_ELEMENTS);
    this.#arriving[rank] = buffer;
    return new Uint8Array(buffer.buffer, 0, bytes);
  }

  /** That message is complete. Returns false if the sender is too far ahead and should pause. */
  closePart(rank: number): boolean {
    const nodes = this.#layout.nodes[rank]!;
    const cursor = this.#partCursor[rank]!;
    const index = Math.floor(cursor / nodes.length);
    const waiting = this.#received.get(index) ?? [];
    waiting.push({ ...nodes[cursor % nodes.length]!, data: this.#arriving[rank]! });
    this.#received.set(index, waiting);
    this.#arriving[rank] = null;
    this.#partCursor[rank] = cursor + 1;
    this.#sumReady();
    return this.mayResume(rank);
  }

  /** Whether the PART stream of `rank` is close enough to the summing to continue. */
  mayResume(rank: number): boolean {
    const nodes = this.#layout.nodes[rank]!.length;
    return Math.floor(this.#partCursor[rank]! / nodes) - this.#summed < MAX_WAITING_CHUNKS;
  }

  /** Memory for the next message of the RESULT stream of `rank`: its place in the global sum. */
  openResult(rank: number, bytes: number): Uint8Array {
    const chunk = this.#layout.chunks[rank]?.[this.#resultCursor[rank]!];
    this.#expect(rank, bytes, chunk);
    if (this.#gradient === null)
      throw new OrchestratorError('ERR_EXCHANGE', `Rank ${rank} sent a sum before this worker sent its part`);
    const target = view(this.#gradient.sum, chunk);
    return new Uint8Array(target.buffer, target.byteOffset, bytes);
  }

  closeResult(rank: number): void {
    this.#resultCursor[rank] = this.#resultCursor[rank]! + 1;
    this.#notify();
  }

  /** Whether a peer's stream has delivered everything. */
  complete(rank: number, kind: 'PART' | 'RESULT'): boolean {
    const { nodes, chunks } = this.#layout;
    return kind === 'PART'
      ? this.#partCursor[rank] === this.#ownChunks.length * nodes[rank]!.length
      : this.#resultCursor[rank] === chunks[rank]?.length;
  }

  /** Resolves when every chunk of the global sum is in its place. */
  async finished(): Promise<void> {
    while (!this.#done()) await this.change();
  }

  /** Rejects every wait with this error. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#notify();
  }

  get #ownChunks(): readonly Chunk[] {
    return this.#layout.chunks[this.#layout.rank]!;
  }

  #done(): boolean {
    const { rank, chunks } = this.#layout;
    return (
      this.#summed === this.#ownChunks.length &&
      this.#resultCursor.every((cursor, r) => r === rank || cursor === chunks[r]?.length)
    );
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
    const remote = nodes.reduce((count, list, r) => (r === rank ? count : count + list.length), 0);
    const before = this.#summed;
    for (;;) {
      const chunk = this.#ownChunks[this.#summed];
      if (chunk === undefined || chunk.bucket >= this.#announced) break;
      const received = this.#received.get(this.#summed) ?? [];
      if (received.length < remote) break;
      this.#received.delete(this.#summed);
      this.#sum(chunk, received);
      this.#summed++;
    }
    if (this.#summed !== before) this.#notify();
  }

  #sum(chunk: Chunk, received: Part<Float32Array>[]): void {
    const { addInto, totalSlots, pool } = this.#layout;
    const { parts, sum } = this.#gradient!;
    const target = view(sum, chunk);
    const own = parts.map(({ lo, hi, buckets }) => ({ lo, hi, data: view(buckets, chunk) }));
    const remote = received.map(({ lo, hi, data }) => ({ lo, hi, data: data.subarray(0, chunk.length) }));
    const result = sumTree([...own, ...remote], totalSlots, (a, b) => {
      // Either order gives the same bits; adding into the target saves a copy at the end.
      const [into, from] = b.buffer === target.buffer && b.byteOffset === target.byteOffset ? [b, a] : [a, b];
      addInto(into, from);
      return into;
    });
    if (result.byteOffset !== target.byteOffset || result.buffer !== target.buffer) target.set(result);
    for (const { data } of received) pool.push(data);
  }

  #localGradient(): LocalGradient {
    const nodes = this.#layout.nodes[this.#layout.rank]!;
    const local = { parts: this.#gradients.gradientParts(), sum: this.#gradients.gradient() };
    const same =
      local.parts.length === nodes.length &&
      local.parts.every((part, i) => part.lo === nodes[i]?.lo && part.hi === nodes[i]?.hi);
    if (same) return local;
    const text = (ranges: readonly Range[]) => ranges.map(({ lo, hi }) => `[${lo}, ${hi})`).join(' ');
    throw new OrchestratorError(
      'ERR_INTERNAL',
      `the engine holds sums over slots ${text(local.parts)}, but the tree has ${text(nodes)}`,
    );
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
