import { type Row, type ShardSchema, writeShards } from '../data/arrow-writer.js';
import type { Encoders, Manifest, ManifestColumn } from '../data/manifest.js';
import { encodePicture, LATENT_CHANNELS, LATENT_SIDE } from './autoencoder.js';
import { caption } from './captions.js';
import { Draws, PURPOSE } from './draws.js';
import { render } from './render.js';
import { drawScene } from './scene.js';
import { DEFAULT_TEXT_ENCODERS, type TextEncoderOptions, TextEncoders } from './text-encoders.js';

export interface ShapesOptions {
  /** Folder to make; it may exist only if it is empty. */
  out: string;
  /** Pictures. */
  count: number;
  /** In [0, 2^64). */
  seed: bigint;
  /** Tokens and widths of the stand-in text encoders; null = DEFAULT_TEXT_ENCODERS. */
  encoders: TextEncoderOptions | null;
  /** Called now and then with the number of rows written. */
  onProgress: ((rows: number) => void) | null;
}

const ROWS_PER_SHARD = 4096;

/**
 * Makes a data set of the shapes world: latents, both captions, and the features of the three encoders for each. Row i
 * is a function of (seed, i) and the options alone, so the same call writes the same bytes, and a larger data set begins
 * with the smaller one. Throws ERR_FILE_WRITE.
 */
export async function generateShapes(options: ShapesOptions): Promise<Manifest> {
  const encoders = options.encoders ?? DEFAULT_TEXT_ENCODERS;
  const schema: ShardSchema = {
    columns: columns(encoders),
    encoders: describeEncoders(encoders),
    latents: { autoencoder: 'dct', channels: LATENT_CHANNELS, downsampling: 8 },
    generator: { name: 'shapes', version: 1, seed: String(options.seed) },
  };
  return writeShards(options.out, schema, rows(options, encoders), ROWS_PER_SHARD, options.onProgress);
}

function describeEncoders(options: TextEncoderOptions): Encoders {
  const { clipTokens, t5Tokens, clipLDim, clipGDim, t5Dim } = options;
  const clip = (name: string, dim: number) => ({ name, tokens: clipTokens, dim, pooled_dim: dim });
  return {
    clip_l: clip('shapes/clip-l', clipLDim),
    clip_g: clip('shapes/clip-g', clipGDim),
    t5: { name: 'shapes/t5', tokens: t5Tokens, dim: t5Dim, pooled_dim: null },
  };
}

function columns(options: TextEncoderOptions): ManifestColumn[] {
  const { clipTokens, t5Tokens, clipLDim, clipGDim, t5Dim } = options;
  const half = (name: string, ...shape: number[]): ManifestColumn => ({ name, type: 'float16', shape });
  const captioned = (kind: string): ManifestColumn[] => [
    { name: `${kind}.caption`, type: 'utf8', shape: [] },
    half(`${kind}.clip_l`, clipTokens, clipLDim),
    half(`${kind}.clip_l_pooled`, clipLDim),
    half(`${kind}.clip_g`, clipTokens, clipGDim),
    half(`${kind}.clip_g_pooled`, clipGDim),
    half(`${kind}.t5`, t5Tokens, t5Dim),
  ];
  return [
    { name: 'id', type: 'int64', shape: [] },
    half('latent', LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE),
    ...captioned('original'),
    ...captioned('synthetic'),
  ];
}

function* rows(options: ShapesOptions, encoderOptions: TextEncoderOptions): Generator<Row> {
  const encoders = new TextEncoders(encoderOptions);
  for (let id = 0; id < options.count; id++) {
    const draws = new Draws(options.seed, PURPOSE.scene, id);
    const scene = drawScene(draws);
    const captions = caption(scene, draws);
    yield {
      id: BigInt(id),
      latent: encodePicture(render(scene)),
      ...textColumns(encoders, 'original', captions.original),
      ...textColumns(encoders, 'synthetic', captions.synthetic),
    };
  }
}

function textColumns(encoders: TextEncoders, kind: string, text: string): Row {
  const features = encoders.encode(text);
  return {
    [`${kind}.caption`]: text,
    [`${kind}.clip_l`]: features.clipL,
    [`${kind}.clip_l_pooled`]: features.clipLPooled,
    [`${kind}.clip_g`]: features.clipG,
    [`${kind}.clip_g_pooled`]: features.clipGPooled,
    [`${kind}.t5`]: features.t5,
  };
}
