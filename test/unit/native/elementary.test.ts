/**
 * Bits by the table that mpmath made (test/fixtures/elementary/make.py); native/test/elementary.cc reads it,
 * too.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/config/load.js';
import type { Elementary } from '../../../src/native/contract.js';
import { elementary } from '../../../src/native/elementary.js';
import { formulationOf, nameWithDensity } from '../../../src/objective/names.js';
import { drawUniforms, normalPair, STREAM } from '../../../src/random/philox.js';
import { initialNoise } from '../../../src/sampling/noise.js';
import { learningRate } from '../../../src/step/learning-rate.js';
import { posEmbed } from '../../support/pos-embed.js';

const FILE = new URL('../../fixtures/elementary/table.txt', import.meta.url).pathname;
const TABLE = readFileSync(FILE, 'utf8')
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))
  .map((line) => {
    const [left, right] = line.split(' = ') as [string, string];
    const [name, ...words] = left.split(' ') as [string, ...string[]];
    return { name, words, results: right.split(' ') };
  });

const view = new DataView(new ArrayBuffer(8));
function fromBits(hex: string): number {
  view.setBigUint64(0, BigInt(`0x${hex}`));
  return view.getFloat64(0);
}
function bits(value: number): string {
  view.setFloat64(0, value);
  return view.getBigUint64(0).toString(16).padStart(16, '0');
}
function singleBits(value: number): string {
  view.setFloat32(0, value);
  return view.getUint32(0).toString(16).padStart(8, '0');
}

function lines(name: string) {
  const found = TABLE.filter((line) => line.name === name);
  expect(found.length).toBeGreaterThanOrEqual(10);
  return found;
}

describe('elementary functions', () => {
  type Scalar = Exclude<keyof Elementary, 'normalPairs' | 'encodePositions'>;
  const names: Scalar[] = [
    'exp',
    'log',
    'sin',
    'cos',
    'tan',
    'atan2',
    'powerOf10000',
    'power',
    'oneMinusPower',
  ];

  test.each(names)('%s has the bits of the table', (name) => {
    const f = elementary()[name] as (...x: number[]) => number;
    for (const { words, results } of lines(name)) {
      expect(bits(f(...words.map(fromBits))), words.join(' ')).toBe(results[0]);
      if (results.length === 1) continue;
      // One of the few that are not the correctly rounded one: its neighbour.
      const [ours, , nearest] = results.map((hex) => (hex === 'nearest' ? 0n : BigInt(`0x${hex}`)));
      expect([-1n, 1n]).toContain(ours! - nearest!);
    }
  });

  test('refuses what is no number', () => {
    const { exp, power, normalPairs, encodePositions } = elementary();
    expect(() => exp('1' as never)).toThrow('Expected a number for argument 1');
    expect(() => power(0.5, 1.5)).toThrow('a whole number');
    expect(() => normalPairs(new Float64Array(3))).toThrow('an even number');
    expect(() => encodePositions(new Float64Array(3), 0)).toThrow('quarter');
  });
});

describe('what a run makes of them', () => {
  test('normal pairs', () => {
    for (const { words, results } of lines('normalPair')) {
      const [u1, u2] = words.map(fromBits) as [number, number];
      expect(normalPair(u1, u2).map(bits)).toEqual(results);
    }
  });

  test('initial noise is made of normal pairs', () => {
    const noise = initialNoise(3n, 5, 7);
    const pairs = [0, 1].flatMap((group) => {
      const [a, b, c, d] = drawUniforms({ seed: 3n, stream: STREAM.sampling, step: 0, sampleId: 5 }, group);
      return [...normalPair(a!, b!), ...normalPair(c!, d!)];
    });
    expect([...noise]).toEqual(pairs.slice(0, 7).map(Math.fround));
  });

  test('t of every density', () => {
    const kinds = new Set<string>();
    for (const { words, results } of lines('time')) {
      kinds.add(words[0]!.replace(/\(.*/, ''));
      const [seed, step, sampleId] = words.slice(1).map(fromBits) as [number, number, number];
      const [u1, u2] = drawUniforms({ seed: BigInt(seed), stream: STREAM.time, step, sampleId });
      const { density } = formulationOf(nameWithDensity(words[0]!));
      expect(bits(density.draw(u1!, u2!)), words.join(' ')).toBe(results[0]);
    }
    expect([...kinds]).toEqual(['uniform', 'lognorm', 'mode', 'cosmap']);
  });

  test('learning rates', () => {
    for (const { words, results } of lines('learningRate')) {
      const [lr, warmup, steps, final, step] = words.map(fromBits) as [
        number,
        number,
        number,
        number,
        number,
      ];
      const config = parseConfig(
        `{name: x, data: {path: d}, optimizer: {lr: ${lr}}, schedule: {steps: ${steps}, warmup: ${warmup}, decay: cosine, final: ${final}}}`,
        'the test',
      );
      expect(bits(learningRate(config, step)), words.join(' ')).toBe(results[0]);
    }
  });

  test('positions', () => {
    for (const { words, results } of lines('position')) {
      const [position, quarter, j] = words.map(fromBits) as [number, number, number];
      const code = elementary().encodePositions(Float64Array.of(position), quarter);
      expect([code[j]!, code[quarter + j]!].map(singleBits), words.join(' ')).toEqual(results);
    }
    const table = posEmbed({ heads: 3, posEmbedMaxSize: 4 });
    const codes = elementary().encodePositions(Float64Array.of(2, 1), 48);
    expect([...table.subarray(6 * 192, 7 * 192)]).toEqual([...codes]);
  });
});
