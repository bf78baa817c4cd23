/**
 * Opens safetensors files and checks their headers. Format: 8 bytes header length, JSON header, tensor data
 * (https://github.com/huggingface/safetensors).
 */
import { OrchestratorError } from '../../errors.js';
import { openForReading, readFully } from '../../files/io.js';
import { MAX_HEADER_BYTES, malformed, parseHeader } from './header.js';
import { MAGIC_BYTES, otherFormat } from './other-formats.js';

export type OpenFile = Awaited<ReturnType<typeof openFile>>;

/** Opens a file and checks its header. `head` is all that precedes the data: the length and the JSON. */
export async function openFile(path: string) {
  const { handle, size } = await openForReading(path);
  try {
    if (size < 8) throw malformed(path, `${size} bytes are too short for a safetensors file`);
    const first = new Uint8Array(Math.min(size, Math.max(8, MAGIC_BYTES)));
    await readFully(handle, first, 0, path);
    const length = new DataView(first.buffer).getBigUint64(0, true);
    if (length > BigInt(MAX_HEADER_BYTES) || length > BigInt(size - 8)) {
      const other = otherFormat(first);
      if (other !== null) {
        const what = `${path} is ${other.name}; expected a safetensors file`;
        throw new OrchestratorError('ERR_SAFETENSORS', what, other.hint);
      }
      throw malformed(
        path,
        `the file of ${size} bytes claims a header of ${length} bytes (at most ${MAX_HEADER_BYTES} are allowed); is it a safetensors file?`,
      );
    }
    const head = new Uint8Array(8 + Number(length));
    await readFully(handle, head, 0, path);
    return { path, handle, bytes: size, head, ...parseHeader(head.subarray(8), size - head.length, path) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}
