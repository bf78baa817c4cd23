/** A case file: a batch with explicit inputs, and the model's results for it. */
import { OrchestratorError } from '../errors.js';
import { Safetensors } from '../formats/safetensors/file.js';
import type { TensorSource } from '../formats/safetensors/write.js';
import { officialName } from '../model/tensors.js';
import type { CaseResult, EngineLayout, ModelSpec, RawBatch } from '../native/contract.js';
import { objectiveOf } from '../objective/objective.js';

export type Case = Awaited<ReturnType<typeof readCase>>;

function shapeError(
  path: string,
  name: string,
  found: readonly number[],
  expected: string,
): OrchestratorError {
  return new OrchestratorError(
    'ERR_TENSOR_SHAPE',
    `${path}: the tensor "${name}" has the shape [${found.join(', ')}]; expected ${expected}`,
  );
}

async function readShaped(file: Safetensors, name: string, shape: readonly number[]): Promise<Float32Array> {
  const found = file.entry(name).shape;
  if (found.join() !== shape.join()) throw shapeError(file.path, name, found, `[${shape.join(', ')}]`);
  return file.read(name);
}

/**
 * Reads `x0`, `eps` [B, C, H, W], `context` [B, M, contextDim], `pooled` [B, pooledDim] and `t` [B] in [0,
 * 1]; and `z_t` [B, C, H, W], which is computed as (1 - t) x0 + t eps if the file lacks it. The conditioning
 * timestep is 1000 t. The `target` is the velocity that a perfect model would predict: eps - x0, [B, C, H,
 * W].
 */
export async function readCase(path: string, spec: ModelSpec) {
  const file = await Safetensors.open(path);
  try {
    const shape = file.entry('x0').shape;
    const [samples = 0, channels, latentHeight = 0, latentWidth = 0] = shape;
    const latents = `[samples, ${spec.latentChannels}, height, width], with sides that are multiples of ${spec.patch}`;
    const whole = (side: number) => side > 0 && side % spec.patch === 0;
    const fits = shape.length === 4 && channels === spec.latentChannels && samples > 0;
    if (!fits || !whole(latentHeight) || !whole(latentWidth)) throw shapeError(path, 'x0', shape, latents);
    const contextShape = file.entry('context').shape;
    const contextTokens = contextShape[1] ?? 0;
    if (contextTokens < 1)
      throw shapeError(path, 'context', contextShape, `[${samples}, tokens, ${spec.contextDim}]`);

    const x0 = await file.read('x0');
    const eps = await readShaped(file, 'eps', shape);
    // The shapes of the inputs whose gradients are computed, by the names of these.
    const inputShapes = {
      'input.z_t': shape,
      'input.context': [samples, contextTokens, spec.contextDim],
      'input.pooled': [samples, spec.pooledDim],
    };
    const context = await readShaped(file, 'context', inputShapes['input.context']);
    const pooled = await readShaped(file, 'pooled', inputShapes['input.pooled']);
    const t = await readShaped(file, 't', [samples]);
    const z = file.tensors.has('z_t') ? await readShaped(file, 'z_t', shape) : mix(x0, eps, t, 'a', 'b');
    const target = mix(x0, eps, t, 'p', 'q');
    const batch: RawBatch = {
      z,
      timestep: t.map((value) => rectifiedFlow().at(value).timestep),
      context,
      pooled,
    };
    return { samples, contextTokens, latentHeight, latentWidth, batch, inputShapes, target };
  } finally {
    await file.close();
  }
}

const rectifiedFlow = () => objectiveOf({ formulation: 'rf', shift: 1 });

/** The network's input (a, b) or its target (p, q) at the samples' times, in rectified flow. */
function mix(x0: Float32Array, eps: Float32Array, t: Float32Array, u: 'a' | 'p', v: 'b' | 'q'): Float32Array {
  const flow = rectifiedFlow();
  const coefficients = Array.from(t, (value) => flow.at(value));
  const perSample = x0.length / t.length;
  return x0.map((value, i) => {
    const { [u]: ofData, [v]: ofNoise } = coefficients[Math.floor(i / perSample)]!;
    return ofData * value + ofNoise * eps[i]!;
  });
}

/** The results as tensors: `velocity`, `loss`, and gradients under the official names and `input.*`. */
export function resultTensors(layout: EngineLayout, input: Case, result: CaseResult): TensorSource[] {
  const shapes = new Map([
    ...Object.entries(input.inputShapes),
    ...layout.tensors.map(({ name, shape }) => [name, shape] as const),
  ]);
  const gradients = [...result.gradients].map(([name, data]): TensorSource => {
    const stored = name.startsWith('input.') ? name : officialName(name);
    return { name: stored, dtype: 'F32', shape: shapes.get(name)!, data };
  });
  return [
    { name: 'velocity', dtype: 'F32', shape: input.inputShapes['input.z_t'], data: result.velocity },
    { name: 'loss', dtype: 'F64', shape: [], data: Float64Array.of(result.loss) },
    ...gradients,
  ];
}
