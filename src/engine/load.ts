/** Loads an engine's state from a checkpoint, or from weights alone. */
import type { CheckpointManifest } from '../checkpoint/manifest.js';
import { loadCheckpoint } from '../checkpoint/store.js';
import { OrchestratorError } from '../errors.js';
import { describeModel, POS_EMBED, sameModel } from '../model/tensors.js';
import { Weights } from '../model/weights.js';
import type { Engine, ModelSpec } from '../native/contract.js';

/**
 * Loads an engine's state from a checkpoint: weights, position table and, if requested, the EMA and the
 * optimizer's moments.
 *
 * @throws OrchestratorError like loadCheckpoint.
 */
export async function loadInto(
  engine: Engine,
  path: string,
  parts: { ema: boolean; optimizer: boolean },
): Promise<CheckpointManifest> {
  const layout = engine.layout();
  const names = ['master', ...(parts.ema ? ['ema'] : []), ...(parts.optimizer ? layout.moments : [])];
  const manifest = await loadCheckpoint(path, {
    layout,
    state: new Map(names.map((name) => [name, (tensor) => engine.state(name, tensor)])),
    posEmbed: engine.posEmbed(),
  });
  await engine.parametersChanged();
  return manifest;
}

/**
 * Loads an engine's master weights and position table from a file, converting from F16, BF16 and F64. An EMA
 * is not touched.
 *
 * @param spec the engine's model, which the file must match exactly.
 * @returns a sentence about skipped parts of the file, or null.
 * @throws OrchestratorError ERR_CHECKPOINT_MISMATCH: names both models; ERR_MODEL_TENSORS, ERR_SAFETENSORS.
 */
export async function loadWeights(engine: Engine, spec: ModelSpec, path: string): Promise<string | null> {
  const weights = await Weights.open(path);
  try {
    if (!sameModel(weights.spec, spec)) {
      throw new OrchestratorError(
        'ERR_CHECKPOINT_MISMATCH',
        `${path} holds another model: ${describeModel(weights.spec)}; the run needs ${describeModel(spec)}`,
      );
    }
    weights.requireFloats();
    for (const { name } of engine.layout().tensors) {
      await weights.read(name, await engine.state('master', name));
    }
    await weights.read(POS_EMBED, engine.posEmbed());
    await engine.parametersChanged();
    return weights.description.note;
  } finally {
    await weights.close();
  }
}
