import { onTestFinished } from 'vitest';
import { inferenceSpec } from '../../src/engine/spec.js';
import type { Engine, EngineSpec, ModelSpec } from '../../src/native/contract.js';
import { native } from '../../src/native/load.js';

export const SMALL: ModelSpec = {
  backbone: 'mmdit',
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

/** What a test does not name otherwise: the small model, trained in fp32 by one thread of the CPU. */
export function engineSpec(other: Partial<EngineSpec> = {}): EngineSpec {
  const shape = { model: SMALL, latentHeight: 8, latentWidth: 8, contextTokens: 16, microBatch: 2 };
  return inferenceSpec(shape, { training: true, ...other });
}

export function closedAfterTest<T extends { close(): Promise<void> }>(engine: T): T {
  onTestFinished(() => engine.close().catch(() => {})); // the test may have closed it
  return engine;
}

/** Is closed after the test. */
export async function openEngine(other: Partial<EngineSpec> = {}): Promise<Engine> {
  return closedAfterTest(await native().createEngine(engineSpec(other)));
}
