import { describe, expect, test } from 'vitest';
import { convertFromFloat32, convertToFloat32 } from '../../../src/formats/safetensors/dtype.js';

const isNaN16 = (bits: number, infinity: number) => (bits & 0x7fff) > infinity;

describe.each([
  ['F16', 0x7c00],
  ['BF16', 0x7f80],
] as const)('%s', (dtype, infinity) => {
  const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const values = new Float32Array(65536);
  convertToFloat32(dtype, new Uint8Array(all.buffer), values);

  test('comes back from fp32 bit by bit', () => {
    const back = new Uint16Array(65536);
    expect(convertFromFloat32(dtype, values, new Uint8Array(back.buffer))).toBe(0);
    const wrong = [...all].filter((bits) =>
      isNaN16(bits, infinity) ? !isNaN16(back[bits]!, infinity) : back[bits] !== bits,
    );
    expect(wrong).toEqual([]);
  });

  test('rounds to the nearest, ties to even', () => {
    // Between each positive finite number and the next: a quarter, the middle, three quarters of the way.
    const next = [...all].slice(0, infinity - 1);
    const between = (part: number) =>
      Float32Array.from(next, (i) => values[i]! + part * (values[i + 1]! - values[i]!));
    const rounded = (part: number) => {
      const out = new Uint16Array(next.length);
      convertFromFloat32(dtype, between(part), new Uint8Array(out.buffer));
      return out;
    };
    expect(rounded(0.25)).toEqual(Uint16Array.from(next));
    expect(rounded(0.75)).toEqual(Uint16Array.from(next, (i) => i + 1));
    expect(rounded(0.5)).toEqual(Uint16Array.from(next, (i) => (i % 2 === 0 ? i : i + 1)));
  });

  test('counts what overflows, and only that', () => {
    const source = Float32Array.of(3.389e38, -3.4028234e38, Number.POSITIVE_INFINITY, Number.NaN, 65504, 1);
    const out = new Uint16Array(source.length);
    expect(convertFromFloat32(dtype, source, new Uint8Array(out.buffer))).toBe(dtype === 'F16' ? 2 : 1);
    expect(out[1]).toBe(infinity | 0x8000);
  });
});

// Values of torch.float8_*: one, the largest, the smallest subnormal, a negative, and what is special.
describe.each([
  ['F8_E4M3', { 56: 1, 126: 448, 1: 2 ** -9, 196: -3, 127: Number.NaN, 255: Number.NaN, 128: -0 }],
  ['F8_E5M2', { 60: 1, 123: 57344, 1: 2 ** -16, 194: -3, 124: Infinity, 252: -Infinity, 125: NaN }],
  ['F8_E4M3FNUZ', { 64: 1, 127: 240, 1: 2 ** -10, 204: -3, 128: Number.NaN, 0: 0 }],
  ['F8_E5M2FNUZ', { 64: 1, 127: 57344, 1: 2 ** -17, 198: -3, 128: Number.NaN, 0: 0 }],
] as const)('%s', (dtype, values) => {
  test('is converted exactly', () => {
    const bytes = Uint8Array.from(Object.keys(values), Number);
    const out = new Float32Array(bytes.length);
    convertToFloat32(dtype, bytes, out);
    expect([...out]).toEqual([...bytes].map((byte) => (values as Record<number, number>)[byte]));
  });

  test('grows with its bits', () => {
    const out = new Float32Array(0x7c);
    convertToFloat32(
      dtype,
      Uint8Array.from(out, (_, byte) => byte),
      out,
    );
    expect([...out]).toEqual([...new Set(out)].sort((a, b) => a - b));
  });
});
