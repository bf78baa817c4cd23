/** Who sums what: every bucket is cut into one slice per rank, and every slice into chunks, the messages on the wire. */
import type { BucketInfo } from '../../native/contract.js';

/** Elements of a chunk, 1 MiB: the fastest on loopback, and what native().addInto takes at once. */
export const CHUNK_ELEMENTS = 262_144;
/** Slices begin at multiples of this many elements of a bucket: whole cache lines. */
const ALIGNMENT = 16;

/** A stretch of a bucket, in elements. */
export interface Chunk {
  bucket: number;
  /** From the bucket's beginning. */
  offset: number;
  length: number;
}

/** The stretch of a bucket that `rank` sums; may be empty. */
export function sliceOf(bucket: BucketInfo, rank: number, ranks: number): { offset: number; length: number } {
  const bound = (r: number) =>
    r === ranks ? bucket.length : Math.floor((bucket.length * r) / ranks / ALIGNMENT) * ALIGNMENT;
  const from = bound(rank);
  return { offset: from, length: bound(rank + 1) - from };
}

/** All chunks that `rank` sums, in the order in which they travel: bucket by bucket, ascending. */
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
