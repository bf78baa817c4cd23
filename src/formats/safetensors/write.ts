/** Writes safetensors files as a stream: at most one chunk of a file is in memory. */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { OrchestratorError } from '../../errors.js';
import { CHUNK_BYTES, type FileRecord } from '../../files/hash.js';
import { writeFailure, writeFully } from '../../files/io.js';
import { DTYPE_BYTES, type Dtype } from './dtype.js';
import { elementsOf, encodeHeader, quoted } from './header.js';

/** A tensor to write. */
export interface TensorSource {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
  /**
   * Its elements, contiguous and little-endian: whole, or in pieces, each of which may be overwritten when
   * the next one is requested.
   */
  data: ArrayBufferView | (() => AsyncIterable<ArrayBufferView>);
}

/** Bytes of a tensor in a file. */
export function sourceBytes({ shape, dtype }: Pick<TensorSource, 'shape' | 'dtype'>): number {
  return (elementsOf(shape) ?? Number.NaN) * DTYPE_BYTES[dtype];
}

/**
 * Writes a new file and flushes it to disk. Wider element types come first, so that every tensor is aligned
 * to its elements; otherwise the caller's order is kept.
 *
 * @param path must not exist.
 * @throws OrchestratorError ERR_FILE_WRITE: names the file and the system's reason; a partial file may
 *   remain.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  metadata: Readonly<Record<string, string>>,
): Promise<FileRecord> {
  const ordered = [...tensors].sort((a, b) => DTYPE_BYTES[b.dtype] - DTYPE_BYTES[a.dtype]);
  const { header, dataBytes } = encodeHeader(ordered, metadata);
  let handle: FileHandle | null = null;
  try {
    handle = await open(path, 'wx', 0o644);
    const sha256 = await writeStream(handle, header, ordered);
    await handle.sync();
    return { bytes: header.length + dataBytes, sha256 };
  } catch (error) {
    throw writeFailure(path, error);
  } finally {
    await handle?.close().catch(() => {});
  }
}

/**
 * Writes header and data through one staging chunk, so that thousands of small tensors do not mean thousands
 * of writes.
 */
async function writeStream(
  handle: FileHandle,
  header: Uint8Array,
  tensors: readonly TensorSource[],
): Promise<string> {
  const hash = createHash('sha256');
  const staging = new Uint8Array(CHUNK_BYTES);
  let used = 0;
  let position = 0;
  const flush = async () => {
    const chunk = staging.subarray(0, used);
    const writing = writeFully(handle, chunk, position);
    hash.update(chunk); // while it is written
    await writing;
    position += used;
    used = 0;
  };
  const put = async ({ buffer, byteOffset, byteLength }: ArrayBufferView) => {
    for (let at = 0; at < byteLength; ) {
      const bytes = Math.min(CHUNK_BYTES - used, byteLength - at);
      staging.set(new Uint8Array(buffer, byteOffset + at, bytes), used);
      used += bytes;
      at += bytes;
      if (used === CHUNK_BYTES) await flush();
    }
  };
  await put(header);
  for (const tensor of tensors) {
    const { name, shape, dtype, data } = tensor;
    let bytes = 0;
    for await (const piece of typeof data === 'function' ? data() : [data]) {
      bytes += piece.byteLength;
      await put(piece);
    }
    if (bytes === sourceBytes(tensor)) continue;
    throw new OrchestratorError(
      'ERR_INTERNAL',
      `Tensor ${quoted(name)} of shape [${shape.join(', ')}] and type ${dtype} was given ${bytes} bytes`,
    );
  }
  if (used > 0) await flush();
  return hash.digest('hex');
}
