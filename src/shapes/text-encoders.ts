/** The text encoders of the shapes world, which stand in for CLIP-L, CLIP-G and T5. */
import type { TextFeatures } from '../sampling/conditioning.js';
import { Draws, PURPOSE } from './draws.js';
import { type Phrase, phrases, VOCABULARY } from './tokenizer.js';

/** Tokens and widths of the three encoders; CLIP-L and CLIP-G have the same number of tokens. */
interface TextEncoderOptions {
  clipTokens: number;
  t5Tokens: number;
  clipLDim: number;
  clipGDim: number;
  t5Dim: number;
}

export const DEFAULT_TEXT_ENCODERS: TextEncoderOptions = {
  clipTokens: 4,
  t5Tokens: 4,
  clipLDim: 48,
  clipGDim: 80,
  t5Dim: 160,
};

/**
 * The encoders' names in data sets and checkpoints. Different features need different names, or models would
 * receive texts that they cannot read.
 */
export const ENCODER_NAMES = { clip_l: 'shapes/clip-l', clip_g: 'shapes/clip-g', t5: 'shapes/t5' } as const;

/**
 * Three frozen text encoders made of random numbers instead of weights, in the roles of CLIP-L, CLIP-G and
 * T5.
 *
 * Each has a Gaussian vector for every word. T5's vectors begin with those of both CLIPs: real text encoders
 * are correlated, so features learned from one help when another is dropped. A token stands for a phrase. Its
 * vector is the sum of its words' vectors (so, as in a real encoder's output, a noun's token knows its
 * adjectives), plus a fraction of the phrases before and after it, rotated by different amounts to keep the
 * three apart. Tokens after the last phrase hold the padding word. The pooled vector is the sum of the
 * tokens, each rotated by its position, so that order matters.
 */
export class TextEncoders {
  readonly #clipL: WordTable;
  readonly #clipG: WordTable;
  readonly #t5: WordTable;
  readonly #options: TextEncoderOptions;

  constructor(options: TextEncoderOptions = DEFAULT_TEXT_ENCODERS) {
    this.#options = options;
    const clipL = (word: number) => gaussian(PURPOSE.words[0], word, options.clipLDim);
    const clipG = (word: number) => gaussian(PURPOSE.words[1], word, options.clipGDim);
    const own = (word: number) => gaussian(PURPOSE.words[2], word, options.t5Dim);
    this.#clipL = new WordTable(options.clipLDim, clipL);
    this.#clipG = new WordTable(options.clipGDim, clipG);
    this.#t5 = new WordTable(options.t5Dim, (word) => {
      const clips = [...clipL(word), ...clipG(word)];
      return own(word).map((value, i) => clips[i] ?? value);
    });
  }

  /**
   * Encodes a caption. Phrases beyond an encoder's tokens are cut off, as in real encoders. Throws ERR_PROMPT
   * if a word is not in the vocabulary, or if there are no words.
   */
  encode(caption: string): TextFeatures {
    const words = phrases(caption);
    const { clipTokens, t5Tokens } = this.#options;
    const clipL = this.#clipL.tokens(words, clipTokens);
    const clipG = this.#clipG.tokens(words, clipTokens);
    return {
      clipL,
      clipLPooled: this.#clipL.pool(clipL),
      clipG,
      clipGPooled: this.#clipG.pool(clipG),
      t5: this.#t5.tokens(words, t5Tokens),
    };
  }
}

/** Scale of a word in its own token, and in the neighbouring tokens. */
const WORD_SCALE = 0.5;
const NEIGHBOUR_SCALE = 0.25;
/** Scale of a token in the pooled vector. */
const POOL_SCALE = 0.5;
/** Number of places by which one rotation moves a vector's elements. */
const ROTATION = 7;

/** One encoder: a vector of `width` for every word. */
class WordTable {
  readonly #vectors: ReadonlyMap<string, Float32Array>;
  readonly #width: number;

  /** @param vector returns the vector of a word, by its number in the vocabulary. */
  constructor(width: number, vector: (word: number) => Float32Array) {
    this.#width = width;
    this.#vectors = new Map(VOCABULARY.map((word, number) => [word, vector(number)]));
  }

  tokens(words: Phrase[], count: number): Float32Array {
    const features = new Float32Array(count * this.#width);
    const kept = words.slice(0, count);
    for (let token = 0; token < count; token++) {
      const row = features.subarray(token * this.#width, (token + 1) * this.#width);
      this.#add(row, kept[token] ?? ['<pad>'], WORD_SCALE, 0);
      this.#add(row, kept[token - 1] ?? [], NEIGHBOUR_SCALE, 1);
      this.#add(row, kept[token + 1] ?? [], NEIGHBOUR_SCALE, 2);
    }
    return features;
  }

  pool(features: Float32Array): Float32Array {
    const pooled = new Float32Array(this.#width);
    for (let token = 0; token * this.#width < features.length; token++) {
      const row = features.subarray(token * this.#width, (token + 1) * this.#width);
      addRotated(pooled, row, POOL_SCALE, token);
    }
    return pooled;
  }

  #add(row: Float32Array, words: Phrase, scale: number, rotations: number): void {
    for (const word of words) addRotated(row, this.#vectors.get(word)!, scale, rotations);
  }
}

function gaussian(purpose: number, word: number, width: number): Float32Array {
  const draws = new Draws(0n, purpose, word);
  return Float32Array.from({ length: width }, () => draws.normal());
}

function addRotated(target: Float32Array, source: Float32Array, scale: number, rotations: number): void {
  const width = target.length;
  let at = (rotations * ROTATION) % width;
  for (let i = 0; i < width; i++) {
    target[at] = target[at]! + scale * source[i]!;
    at = at + 1 === width ? 0 : at + 1;
  }
}
