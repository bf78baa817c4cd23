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

/** The range of a bucket that `rank` sums, which may be empty. */
export function sliceOf(bucket: BucketInfo, rank: number, ranks: number): { offset: number; length: number } {
  const bound = (r: number) =>
    r === ranks ? bucket.length : Math.floor((bucket.length * r) / ranks / ALIGNMENT) * ALIGNMENT;
  const from = bound(rank);
  return { offset: from, length: bound(rank + 1) - from };
}

/** All chunks that `rank` sums, in the order in which they are sent: by bucket, ascending. */
export function chunksOf(
  buckets: readonly BucketInfo[],
  rank: number,
  ranks: number,
  chunkElements = CHUNK_ELEMENTS,
): Chunk[] {
  return buckets.flatMap((bucket, index) => {
    const slice = sliceOf(bucket, rank, ranks);
    const chunks: Chunk[] = [];
    for (let done = 0; done < slice.length; done += chunkElements) {
      const length = Math.min(chunkElements, slice.length - done);
      chunks.push({ bucket: index, offset: slice.offset + done, length });
    }
    return chunks;
  });
}
