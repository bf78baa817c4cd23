import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { OrchestratorError } from '../../../src/errors.js';
import type { TextFeatures } from '../../../src/sampling/conditioning.js';
import { DEFAULT_TEXT_ENCODERS, TextEncoders } from '../../../src/shapes/text-encoders.js';
import { phrases, VOCABULARY } from '../../../src/shapes/tokenizer.js';

const encoders = new TextEncoders();

function distance(a: Float32Array, b: Float32Array): number {
  return Math.sqrt(a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0));
}

function token(features: TextFeatures, index: number): Float32Array {
  return features.t5.subarray(index * DEFAULT_TEXT_ENCODERS.t5Dim, (index + 1) * DEFAULT_TEXT_ENCODERS.t5Dim);
}

describe('phrases', () => {
  test('splits at "and", commas, "on" and relations', () => {
    expect(phrases('Two red circles left of a square.')).toEqual([
      ['two', 'red', 'circle', '-s'],
      ['left-of', 'square'],
    ]);
    expect(phrases('a large blue cross at the top left, a circle and crosses on a black background')).toEqual(
      [['large', 'blue', 'cross', 'top', 'left'], ['circle'], ['cross', '-s'], ['black']],
    );
  });

  test('names the word it does not know, and the words it knows', () => {
    expect(() => phrases('a red cirle')).toThrow(
      expect.objectContaining({
        code: 'ERR_PROMPT',
        message: expect.stringMatching(/"cirle", .*; did you mean circle$/),
        hint: expect.stringMatching(/^It knows: circle, square, triangle, cross, /),
      }),
    );
    expect(() => phrases('two sqares')).toThrow(/did you mean squares$/);
    expect(() => phrases('a dog')).toThrow(/which the shapes world does not know$/);
    expect(() => phrases('  ,  ')).toThrow(expect.objectContaining({ code: 'ERR_PROMPT' }));
    expect(() => phrases('<pad>')).toThrow(expect.objectContaining({ code: 'ERR_PROMPT' }));
  });

  test('lists each known word once, and asks for quotes around a prompt of several words', () => {
    const hintOf = (prompt: string) => {
      try {
        phrases(prompt);
      } catch (error) {
        return (error as OrchestratorError).hint ?? '';
      }
      throw new Error('expected ERR_PROMPT');
    };
    const words = hintOf('a dog').replace('It knows: ', '').split(/[,;] /);
    expect(words).toContain('above');
    expect(new Set(words).size).toBe(words.length);
    // The shell splits `--prompt a red circle` into three prompts.
    expect(hintOf('a')).toMatch(/^Quote a prompt of several words: --prompt "a red circle"\. It knows: /);
  });
});

describe('TextEncoders', () => {
  test('gives the same features on every machine', () => {
    // As float16, which is what data sets hold; a change here makes older data sets and checkpoints useless
    // for prompts.
    const hash = createHash('sha256');
    for (const caption of [
      'red circle',
      'a small red circle left of a large blue square on a gray background',
    ]) {
      const { clipL, clipLPooled, clipG, clipGPooled, t5 } = encoders.encode(caption);
      for (const part of [clipL, clipLPooled, clipG, clipGPooled, t5]) {
        hash.update(Int32Array.from(part, (value) => Math.round(value * 1024)));
      }
    }
    expect(hash.digest('hex')).toBe('9f127559cbc478dfae2f4818d15814afec55326f7db789d82a6502aca13f35c7');
  });

  test('has the shapes that it states', () => {
    const features = new TextEncoders({
      clipTokens: 3,
      t5Tokens: 5,
      clipLDim: 8,
      clipGDim: 12,
      t5Dim: 24,
    }).encode('cross');
    expect(Object.values(features).map((part: Float32Array) => part.length)).toEqual([24, 8, 36, 12, 120]);
  });

  test('binds adjectives to their noun', () => {
    const a = encoders.encode('red circle and blue square');
    const b = encoders.encode('blue circle and red square');
    expect(distance(token(a, 0), token(b, 0))).toBeGreaterThan(3);
    // The order within a phrase is immaterial, that of phrases is not.
    expect(distance(encoders.encode('circle red').t5, encoders.encode('red circle').t5)).toBeLessThan(1e-5);
    const swapped = encoders.encode('blue square and red circle');
    expect(distance(a.clipLPooled, swapped.clipLPooled)).toBeGreaterThan(1);
  });

  test('lets a token know its neighbours, and no others', () => {
    const a = encoders.encode('circle, square and cross');
    const b = encoders.encode('circle, square and triangle');
    expect(distance(token(a, 0), token(b, 0))).toBe(0);
    expect(distance(token(a, 1), token(b, 1))).toBeGreaterThan(0.5);
    expect(distance(token(a, 2), token(b, 2))).toBeGreaterThan(3);
  });

  test('cuts off what does not fit', () => {
    const long = encoders.encode('circle, square, cross, triangle and circle on black');
    expect(long.t5).toHaveLength(4 * 160);
    expect(long).toEqual(encoders.encode('circle, square, cross and triangle'));
  });

  test('has distinct vectors of unit variance for all words', () => {
    // "center" brings "middle" with it.
    const words = VOCABULARY.filter((word) => /^[a-z]+$/.test(word) && word !== 'center');
    const vectors = words.map((word) => token(encoders.encode(word), 0));
    vectors.forEach((a, i) => {
      const norm = Math.sqrt(a.reduce((sum, value) => sum + value * value, 0));
      expect(Math.abs(norm / (0.5 * Math.sqrt(160)) - 1)).toBeLessThan(0.25);
      for (const b of vectors.slice(i + 1)) expect(distance(a, b)).toBeGreaterThan(5);
    });
  });
});
