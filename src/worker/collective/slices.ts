/** Which rank sums what: a bucket has one slice per rank, and a slice consists of chunks, the messages. */
import type { BucketInfo } from '../../native/contract.js';

/**
 * Elements of a chunk, 1 MiB: the fastest size on loopback, and the most that native().addInto takes at once.
 */
export const CHUNK_ELEMENTS = 262_144;
/** Slices begin at multiples of this many elements, a cache line. */
const ALIGNMENT = 16;

/** A range of a bucket, in elements. */
export interface Chunk {
  bucket: number;
  /** Offset from the start of the bucket. */
  offset: number;
  length: number;
}

/** All chunks that `rank` sums, in the order in which they are sent: by bucket, ascending. */
export function chunksOf(buckets: readonly BucketInfo[], rank: number, ranks: number): Chunk[] {
  return buckets.flatMap(({ length }, bucket) => {
    const bound = (r: number) =>
      r === ranks ? length : Math.floor((length * r) / ranks / ALIGNMENT) * ALIGNMENT;
    const end = bound(rank + 1);
    const chunks: Chunk[] = [];
    for (let offset = bound(rank); offset < end; offset += CHUNK_ELEMENTS)
      chunks.push({ bucket, offset, length: Math.min(CHUNK_ELEMENTS, end - offset) });
    return chunks;
  });
}
