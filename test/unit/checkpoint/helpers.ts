/** Small checkpoints of a real model's layout, without an engine. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import type { CheckpointContent } from '../../../src/checkpoint/store.js';
import { expectedParameters } from '../../../src/model/tensors.js';
import type { EngineLayout, ModelSpec, StateName, StateTensors } from '../../../src/native/contract.js';
import { posEmbed } from '../model/pos-embed.js';

/** mulberry32: a small seeded generator, so that a failing case can be run again. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Compares bit by bit; far quicker than toEqual on large arrays. */
export function sameBytes(a: Float32Array, b: Float32Array): boolean {
  const bytes = (array: Float32Array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength);
  return bytes(a).equals(bytes(b));
}

export const SMALL: ModelSpec = {
  depth: 2,
  heads: 1,
  patch: 2,
  latentChannels: 4,
  contextDim: 24,
  pooledDim: 12,
  posEmbedMaxSize: 4,
  qkNorm: 'rms',
  dualAttention: [0],
};

/** The flat layout of a model: parameters in order, each at a multiple of 16 elements. */
export function layoutOf(spec: ModelSpec): EngineLayout {
  let offset = 0;
  let parameters = 0;
  const tensors = expectedParameters(spec).map(({ name, shape }) => {
    const length = shape.reduce((product, side) => product * side, 1);
    const tensor = { name, shape, offset, length };
    offset += Math.ceil(length / 16) * 16;
    parameters += length;
    return tensor;
  });
  const posEmbedShape = [spec.posEmbedMaxSize ** 2 * spec.heads * 64];
  return {
    length: offset,
    tensors,
    buckets: [{ offset: 0, length: offset }],
    posEmbed: { shape: posEmbedShape },
    parameters,
    arenaBytes: 0,
    flopsPerSlot: 0,
  };
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
): CheckpointContent & { flat: Map<StateName, Float32Array> } {
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
      configJson: JSON.stringify({ name: 'test', seed: 7, optimizer: { lr: 1e-3 } }),
      modelSpec: spec,
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

/** A function that makes temporary folders, which go when the test ends. */
export function temporaryFolders(): () => Promise<string> {
  const made: string[] = [];
  afterEach(async () => {
    for (const path of made.splice(0)) await rm(path, { recursive: true, force: true });
  });
  return async () => {
    const path = await mkdtemp(join(tmpdir(), 'checkpoint-test-'));
    made.push(path);
    return path;
  };
}
