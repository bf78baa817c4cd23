import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkpointPieces, statePieces } from '../../../src/checkpoint/state-stream.js';
import { openCheckpoint, publishCheckpoint, stageCheckpoint } from '../../../src/checkpoint/store.js';
import { ArrivingState } from '../../../src/coordinator/arriving-state.js';
import { contentOf, sameBytes } from '../../support/checkpoints.js';
import { temporaryFolder } from '../../support/folders.js';

const content = contentOf(4, 1);
const pieces = statePieces(content.layout, content.posEmbed.length, true);
const STATE = ['master', 'ema', 'm', 'v'];

async function stored(root: string): Promise<string> {
  const { folder } = await stageCheckpoint(root, content);
  return await publishCheckpoint(root, folder);
}

test('the pieces of a checkpoint are those of the state from which it was written', async () => {
  const path = await stored(temporaryFolder());
  const found: Float32Array[] = [];
  for await (const piece of checkpointPieces(path, await openCheckpoint(path), true)) found.push(piece);
  expect(found).toHaveLength(pieces.length);
  for (const [index, { array, tensor, from, to }] of pieces.entries()) {
    const whole = tensor === '' ? content.posEmbed : await content.state.get(array)!(tensor);
    expect(sameBytes(found[index]!, whole.subarray(from, to))).toBe(true);
  }
});

test('a state that arrives is written as it comes, with the bytes of one that was there', async () => {
  const folder = temporaryFolder();
  const path = await stored(folder);
  let wake = () => {};
  const arriving = new ArrivingState(pieces, (why) => new Error(why));
  arriving.resume = () => wake();
  const send = async () => {
    for await (const piece of checkpointPieces(path, await openCheckpoint(path), true)) {
      arriving.open(piece.byteLength).set(new Uint8Array(piece.buffer));
      // It waits while the disk is slower.
      if (!arriving.close()) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
    arriving.ended(null);
  };
  const sent = send();
  const posEmbed = await arriving.tensor('', '');
  const copy = { ...content, posEmbed, state: arriving.readers(STATE) };
  const { manifest } = await stageCheckpoint(join(folder, 'copies'), copy);
  await sent;
  expect(manifest.files).toEqual((await openCheckpoint(path)).files);
});

test('a state that stops arriving is an error, and nothing of it stays', async () => {
  const root = temporaryFolder();
  const arriving = new ArrivingState(pieces, (why) => new Error(`lost: ${why}`));
  const bytes = 4 * content.posEmbed.length;
  expect(() => arriving.open(bytes + 4)).toThrow(`${bytes + 4} bytes came where ${bytes} was expected`);
  arriving.open(bytes);
  arriving.close();
  const posEmbed = await arriving.tensor('', '');
  const staged = stageCheckpoint(root, { ...content, posEmbed, state: arriving.readers(STATE) });
  arriving.ended(null);
  await expect(staged).rejects.toThrow('lost: the stream ended early');
  await expect(arriving.tensor('v', 'no such tensor')).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
});
