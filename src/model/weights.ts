/** Weights between an engine and a safetensors file under the official names. */
import { SafetensorsFile } from '../checkpoint/safetensors.js';
import { OrchestratorError } from '../errors.js';
import type { Engine, EngineLayout, ModelSpec } from '../native/contract.js';
import { describeSkipped, type ModelTensors, modelSpecFromTensors, modelTensors } from './spec.js';
import { describeModel, OFFICIAL_PREFIX, POS_EMBED, sameModel } from './tensors.js';

export interface WeightsDescription {
  spec: ModelSpec;
  tensors: ModelTensors;
  /** A sentence about parts of the file that are skipped, or null. */
  note: string | null;
}

/** The model whose weights a file holds. */
export function describeWeights(file: SafetensorsFile): WeightsDescription {
  const tensors = modelTensors(file.tensors, file.path);
  const spec = modelSpecFromTensors(tensors.shapes, file.path);
  return { spec, tensors, note: describeSkipped(tensors.skipped) };
}

/** The file's name of each of an engine's parameters, and of the position table. */
export function officialName(name: string): string {
  return OFFICIAL_PREFIX + name;
}

/** Views of a flat array by official name, prefix included. */
export function parameterViews(layout: EngineLayout, flat: Float32Array): Map<string, Float32Array> {
  return new Map(
    layout.tensors.map(({ name, offset, length }) => [
      officialName(name),
      flat.subarray(offset, offset + length),
    ]),
  );
}

/**
 * Fills an engine's master weights (and its position table) from a file; converts from F16, BF16 and F64. An EMA that
 * the engine keeps is left alone.
 *
 * @param spec the engine's model, which the file must hold exactly.
 * @returns a sentence about what was skipped in the file, or null.
 * @throws OrchestratorError ERR_CHECKPOINT_MISMATCH naming both models, or ERR_MODEL_TENSORS, ERR_SAFETENSORS.
 */
export async function loadWeights(engine: Engine, spec: ModelSpec, path: string): Promise<string | null> {
  const file = await SafetensorsFile.open(path);
  try {
    const found = describeWeights(file);
    if (!sameModel(found.spec, spec)) {
      throw new OrchestratorError(
        'ERR_CHECKPOINT_MISMATCH',
        `${path} holds another model: ${describeModel(found.spec)}; the run needs ${describeModel(spec)}.`,
      );
    }
    const layout = engine.layout();
    const master = engine.state('master');
    for (const { name, offset, length } of layout.tensors) {
      await file.read(found.tensors.names.get(name) ?? name, master.subarray(offset, offset + length));
    }
    await file.read(found.tensors.names.get(POS_EMBED) ?? POS_EMBED, engine.posEmbed());
    await engine.parametersChanged();
    return found.note;
  } finally {
    await file.close();
  }
}
