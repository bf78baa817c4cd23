/** Small checkpoints of a real model's layout, without an engine. */
import { join } from 'node:path';
import { type CheckpointContent, publishCheckpoint, stageCheckpoint } from '../../src/checkpoint/store.js';
import type { EngineLayout, ModelSpec, StateName, StateTensors } from '../../src/native/contract.js';
import { native } from '../../src/native/load.js';
import { SMALL } from './engines.js';
import { temporaryFolder } from './folders.js';
import { posEmbed } from './pos-embed.js';
import { generator } from './random.js';

/** A run's folder and its folder of checkpoints. */
export function runFolder(): { dir: string; root: string } {
  const dir = temporaryFolder();
  return { dir, root: join(dir, 'checkpoints') };
}

/** Compares bit by bit; far quicker than toEqual on large arrays. */
export function sameBytes(a: Float32Array, b: Float32Array): boolean {
  const bytes = (array: Float32Array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength);
  return bytes(a).equals(bytes(b));
}

/** The layout of an engine that trains the model. */
export function layoutOf(spec: ModelSpec): EngineLayout {
  return { ...native().parameters(spec), moments: ['m', 'v'], arenaBytes: 0, flops: 0 };
}

/** Flat arrays as the state that a checkpoint is made of, or filled into. */
export function stateOf(layout: EngineLayout, flat: ReadonlyMap<StateName, Float32Array>): StateTensors {
  const places = new Map(layout.tensors.map((tensor) => [tensor.name, tensor]));
  const readerOf = (array: Float32Array) => (tensor: string) => {
    const { offset, length } = places.get(tensor)!;
    return array.subarray(offset, offset + length);
  };
  return new Map([...flat].map(([name, array]) => [name, readerOf(array)]));
}

/** A checkpoint whose values are a function of the seed; padding between the tensors stays zero. */
export function contentOf(
  step: number,
  seed: number,
  spec: ModelSpec = SMALL,
): CheckpointContent & { layout: EngineLayout; flat: Map<StateName, Float32Array> } {
  const layout = layoutOf(spec);
  const random = generator(seed);
  const flats = new Map<StateName, Float32Array>();
  for (const name of ['master', 'ema', 'm', 'v'] as const) {
    const flat = new Float32Array(layout.length);
    for (const { offset, length } of layout.tensors) {
      for (let i = offset; i < offset + length; i++) flat[i] = random() - 0.5;
    }
    flats.set(name, flat);
  }
  return {
    layout,
    flat: flats,
    state: stateOf(layout, flats),
    posEmbed: posEmbed(spec),
    metadata: {
      step,
      planState: { version: 1, seed: 7, step },
      datasetHash: 'a'.repeat(64),
      config: { name: 'test', seed: 7, optimizer: { lr: 1e-3 } },
      modelSpec: spec,
      optimizer: 'adamw',
      latent: [4, 8, 8],
      text: {
        clipTokens: 8,
        t5Tokens: 8,
        clipLDim: 8,
        clipGDim: 16,
        t5Dim: 24,
        clipLPooledDim: 4,
        clipGPooledDim: 8,
      },
      encoders: null,
      versions: { orchestrator: '0.1.0' },
    },
  };
}

/** Writes a checkpoint and gives it its final name, as a run does. */
export async function saveCheckpoint(root: string, content: CheckpointContent) {
  const { folder, manifest } = await stageCheckpoint(root, content);
  return { path: await publishCheckpoint(root, folder), manifest };
}
