/** Starts training from given weights, also of a model without QK-norm or with a smaller position grid. */
import { modelDifferences } from '../config/model.js';
import { show } from '../config/value.js';
import { OrchestratorError } from '../errors.js';
import { extendPositions } from '../model/extend-positions.js';
import { POS_EMBED } from '../model/tensors.js';
import { type Weights, withWeights } from '../model/weights.js';
import type { Engine, EngineSpec, ModelSpec, RawBatch } from '../native/contract.js';
import { native } from '../native/load.js';
import { hiddenOf } from '../native/specs.js';
import { loadParameters } from './load.js';
import { notesOn, storedAt } from './stored-weights.js';

/**
 * Loads master weights and positions from weights that may lack QK-norm and may have a smaller position grid.
 *
 * A missing gamma becomes the root mean square of its queries or keys on the calibration batch, so that the
 * norm's output is about as large as its input: the function changes only as far as single tokens and heads
 * deviate from the mean.
 *
 * @param spec spec of `engine`, whose state is overwritten.
 * @param calibration is called only if norms are added.
 * @returns sentences for the user.
 * @throws OrchestratorError ERR_CHECKPOINT_MISMATCH: the models differ in anything else; errors of
 *   Weights.open.
 */
export async function startFrom(
  engine: Engine,
  spec: EngineSpec,
  path: string,
  calibration: () => RawBatch | Promise<RawBatch>,
): Promise<string[]> {
  return await withWeights(path, async (weights) => {
    weights.requireFloats();
    requireReachable(weights.spec, spec.model, path);
    const about = notesOn(await storedAt(path));
    const notes = [...about, ...weights.notes, ...(await readPositions(weights, spec.model, engine))];
    await loadParameters(engine, weights);
    await engine.parametersChanged();
    if (weights.spec.qkNorm === spec.model.qkNorm) return notes;
    return [...notes, await addNorms(engine, spec, await calibration())];
  });
}

/**
 * Refuses weights from which a model cannot be started: only QK-norm can be added, and only the position grid
 * can grow.
 *
 * @param placeOf where a key of the configuration was set, for messages: " (run.yaml:3:5)", or "".
 */
export function requireReachable(
  found: ModelSpec,
  wanted: ModelSpec,
  path: string,
  placeOf: (key: string) => string = () => '',
): void {
  const qkNorm = found.qkNorm === 'none' ? wanted.qkNorm : found.qkNorm;
  const posEmbedMaxSize = Math.max(found.posEmbedMaxSize, wanted.posEmbedMaxSize);
  const differences = modelDifferences({ ...found, qkNorm, posEmbedMaxSize }, wanted);
  if (differences.length === 0) return;
  const texts = differences.map(
    ({ key, a, b }) => `model.${key} is ${show(a)} there and ${show(b)} in the run${placeOf(`model.${key}`)}`,
  );
  const lines = differences.map(({ key, a }) => `${key}: ${show(a)}`).join(', ');
  throw new OrchestratorError(
    'ERR_CHECKPOINT_MISMATCH',
    `init: ${path} holds another model: ${texts.join('; ')}`,
    `Leave these keys out, so that they are those of the weights, or set model: {${lines}}. Only QK-norm can be added, and only the position grid can grow`,
  );
}

async function readPositions(weights: Weights, wanted: ModelSpec, engine: Engine): Promise<string[]> {
  const [from, to] = [weights.spec.posEmbedMaxSize, wanted.posEmbedMaxSize];
  if (from === to) {
    await weights.read(POS_EMBED, engine.posEmbed());
    return [];
  }
  const stored = new Float32Array(from * from * hiddenOf(wanted));
  await weights.read(POS_EMBED, stored);
  const { table, how } = extendPositions(stored, hiddenOf(wanted), from, to);
  engine.posEmbed().set(table);
  return [`Extended the position grid from ${from} x ${from} to ${to} x ${to} (${how})`];
}

/** Sets the gammas, and says how the velocity on the batch differs from that of the weights without them. */
async function addNorms(engine: Engine, spec: EngineSpec, batch: RawBatch) {
  const model: ModelSpec = { ...spec.model, qkNorm: 'none' };
  const plain = await native().createEngine({ ...spec, model, training: false, ema: false });
  try {
    await copyParameters(engine, plain);
    await plain.parametersChanged();
    const reference = await plain.predict(batch, 'master');
    const measured = new Map<string, number>();
    for (const { attention, query, key } of await plain.queryKeyRms(batch, 'master')) {
      measured.set(`${attention}.ln_q.weight`, query);
      measured.set(`${attention}.ln_k.weight`, key);
    }
    const change = async (gamma: (name: string) => number) => {
      for (const { name } of engine.layout().tensors) {
        if (/\.ln_[qk]\.weight$/.test(name)) (await engine.state('master', name)).fill(gamma(name));
      }
      await engine.parametersChanged();
      const distance = relativeDistance(await engine.predict(batch, 'master'), reference);
      return `${(100 * distance).toPrecision(3)} %`;
    };
    const ones = await change(() => 1);
    const calibrated = await change((name) => measured.get(name)!);
    const [low, high] = [Math.min(...measured.values()), Math.max(...measured.values())];
    return `Added QK-norm with gammas of ${low.toPrecision(3)} to ${high.toPrecision(3)}: the velocity changes by ${calibrated} (with gammas of 1 by ${ones})`;
  } finally {
    await plain.close();
  }
}

async function copyParameters(from: Engine, to: Engine): Promise<void> {
  for (const { name } of to.layout().tensors) {
    (await to.state('master', name)).set(await from.state('master', name));
  }
  to.posEmbed().set(from.posEmbed());
}

/** |a - b| / |b|, in the L2 norm. */
function relativeDistance(a: Float32Array, b: Float32Array): number {
  let difference = 0;
  let size = 0;
  for (let i = 0; i < b.length; i++) {
    const d = a[i]! - b[i]!;
    difference += d * d;
    size += b[i]! * b[i]!;
  }
  return Math.sqrt(difference / size);
}
