/**
 * The state of a run as a stream: the positions, then weights, EMA and moments, tensor by tensor in the order of the
 * layout. A worker sends it from its memory, and whoever has a checkpoint sends the same from its files.
 */
import { join } from 'node:path';
import { Safetensors } from '../formats/safetensors/file.js';
import { elementsOf } from '../formats/safetensors/header.js';
import { OFFICIAL_PREFIX, officialName, POS_EMBED } from '../model/tensors.js';
import type { EngineLayout, StateName } from '../native/contract.js';
import { native } from '../native/load.js';
import { type CheckpointManifest, EMA_FILE, MODEL_FILE, OPTIMIZER_FILE } from './manifest.js';

/** The most elements of a piece: 1 MiB, the fastest size of a message on loopback. */
const PIECE_ELEMENTS = 262_144;

/** Elements [from, to) of one tensor of one array; of the positions both names are ''. */
export interface StatePiece {
  array: StateName;
  tensor: string;
  from: number;
  to: number;
}

/** The pieces of a state in their order. `positions`: the number of their elements. */
export function statePieces(
  { tensors, moments }: Pick<EngineLayout, 'tensors' | 'moments'>,
  positions: number,
  ema: boolean,
): StatePiece[] {
  const arrays = ['master', ...(ema ? ['ema'] : []), ...moments];
  return [
    ...piecesOf('', '', positions),
    ...arrays.flatMap((array) => tensors.flatMap(({ name, length }) => piecesOf(array, name, length))),
  ];
}

function piecesOf(array: StateName, tensor: string, length: number): StatePiece[] {
  return Array.from({ length: Math.ceil(length / PIECE_ELEMENTS) }, (_, i) => ({
    array,
    tensor,
    from: i * PIECE_ELEMENTS,
    to: Math.min(length, (i + 1) * PIECE_ELEMENTS),
  }));
}

/**
 * The pieces of a checkpoint's state, read one after another from its files, which the caller has verified.
 *
 * @param path its folder.
 */
export async function* checkpointPieces(
  path: string,
  { modelSpec }: CheckpointManifest,
  ema: boolean,
): AsyncGenerator<Float32Array> {
  const { tensors, posEmbed } = native().parameters(modelSpec);
  const open = new Map<string, Safetensors>();
  const fileOf = async (name: string) => {
    const file = open.get(name) ?? (await Safetensors.open(join(path, name)));
    open.set(name, file);
    return file;
  };
  try {
    const moments = momentsIn(await fileOf(OPTIMIZER_FILE), tensors[0]!.name);
    for (const { array, tensor, from, to } of statePieces(
      { tensors, moments },
      elementsOf(posEmbed.shape)!,
      ema,
    )) {
      const [file, name] = storedAs(array, tensor);
      const piece = new Float32Array(to - from);
      await (await fileOf(file)).readElements(name, from, piece);
      yield piece;
    }
  } finally {
    for (const file of open.values()) await file.close();
  }
}

/** The moments in an optimizer's file, in their order: it has "m.TENSOR" of each tensor, and then "v.TENSOR". */
function momentsIn({ tensors }: Safetensors, first: string): string[] {
  const end = `.${first}`;
  return [...tensors.keys()].filter((name) => name.endsWith(end)).map((name) => name.slice(0, -end.length));
}

/** The file of a tensor and its name there. */
function storedAs(array: StateName, tensor: string): [file: string, name: string] {
  if (array === '') return [MODEL_FILE, officialName(POS_EMBED)];
  if (array === 'master') return [MODEL_FILE, `${OFFICIAL_PREFIX}${tensor}`];
  if (array === 'ema') return [EMA_FILE, `${OFFICIAL_PREFIX}${tensor}`];
  return [OPTIMIZER_FILE, `${array}.${tensor}`];
}
