/** Loads an engine's state from a checkpoint, or from weights alone. */
import type { CheckpointManifest } from '../checkpoint/manifest.js';
import { loadCheckpoint } from '../checkpoint/store.js';
import { POS_EMBED } from '../model/tensors.js';
import type { Weights } from '../model/weights.js';
import type { Engine } from '../native/contract.js';

/** Loads an engine's state from a checkpoint: weights, position table, moments and, with `ema`, the EMA. */
export async function loadInto(engine: Engine, path: string, ema: boolean): Promise<CheckpointManifest> {
  const layout = engine.layout();
  const names = ['master', ...(ema ? ['ema'] : []), ...layout.moments];
  const manifest = await loadCheckpoint(path, {
    layout,
    state: new Map(names.map((name) => [name, (tensor) => engine.state(name, tensor)])),
    posEmbed: engine.posEmbed(),
  });
  await engine.parametersChanged();
  return manifest;
}

/** Loads the master weights that a file has; an engine's other parameters are not changed. */
export async function loadParameters(engine: Engine, weights: Weights): Promise<void> {
  for (const { name } of engine.layout().tensors) {
    if (weights.pieces.has(name)) await weights.read(name, await engine.state('master', name));
  }
}

/**
 * Loads master weights and position table, converting from the other types of floats. An EMA is not touched.
 *
 * @param weights those of the engine's model.
 */
export async function loadWeights(engine: Engine, weights: Weights): Promise<void> {
  weights.requireFloats();
  await loadParameters(engine, weights);
  await weights.read(POS_EMBED, engine.posEmbed());
  await engine.parametersChanged();
}
