/** What the parameters of a block have in common, for statistics by block. */
import type { EngineLayout, TensorReader } from '../native/contract.js';
import { HEAD_DIM } from '../native/specs.js';

/**
 * The block that a parameter belongs to, as attentions are named: "block 3". Outside of the blocks, its
 * module: "final_layer", "x_embedder".
 *
 * @param parameter its official name
 */
export function blockOf(parameter: string): string {
  const [, block] = /blocks\.(\d+)\./.exec(parameter) ?? [];
  return block === undefined ? parameter.split('.')[0]! : `block ${block}`;
}

/** The elements of each block in the flat arrays, as from, to, from, to, ... for Engine.gradientNorms. */
export function blockBounds({ tensors }: EngineLayout): { names: string[]; bounds: Float64Array } {
  const ranges = new Map<string, [from: number, to: number]>();
  for (const { name, offset, length } of tensors) {
    const block = blockOf(name);
    const [from, to] = ranges.get(block) ?? [offset, offset];
    ranges.set(block, [Math.min(from, offset), Math.max(to, offset + length)]);
  }
  return { names: [...ranges.keys()], bounds: Float64Array.from([...ranges.values()].flat()) };
}

/** The streams of an attention, in the order of the joint sequence, by the parameters' part of a block. */
const STREAMS = { context_block: 'text', x_block: 'image' } as const;

/**
 * The largest logit that QK-norm allows each attention and query stream: RMSNorm gives queries and keys of d
 * channels the length sqrt(d) before the gammas scale their channels, so that
 * |q.k| / sqrt(d) <= sqrt(d) max_j |gamma_q[j] gamma_k[j]|, over the key streams, too.
 *
 * @returns by attention and stream: "block 3 text", "block 3 attn2 image". Empty without QK-norm.
 */
export async function logitBounds(layout: EngineLayout, weights: TensorReader): Promise<Map<string, number>> {
  const attentions = new Map<string, { stream: string; gammas: Promise<[Float32Array, Float32Array]> }[]>();
  for (const { name } of layout.tensors) {
    const [, side, attention] = /(context_block|x_block)\.(attn2?)\.ln_q\.weight$/.exec(name) ?? [];
    if (attention === undefined) continue;
    const key = `${blockOf(name)}${attention === 'attn' ? '' : ` ${attention}`}`;
    const gammas = Promise.all([weights(name), weights(name.replace('ln_q', 'ln_k'))]);
    const of = attentions.get(key) ?? [];
    attentions.set(key, [...of, { stream: STREAMS[side as keyof typeof STREAMS], gammas }]);
  }
  const bounds = new Map<string, number>();
  for (const [key, of] of attentions) {
    const streams = await Promise.all(of.map(({ gammas }) => gammas));
    for (const [i, { stream }] of of.entries()) {
      let largest = 0;
      for (const [, keys] of streams)
        for (const [j, gamma] of streams[i]![0].entries())
          largest = Math.max(largest, Math.abs(gamma * keys[j]!));
      bounds.set(`${key} ${stream}`, Math.sqrt(HEAD_DIM) * largest);
    }
  }
  return bounds;
}
