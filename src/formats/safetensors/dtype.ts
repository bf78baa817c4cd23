/** Element types of safetensors, and their conversion to and from fp32. */
import { toFloat16Bits } from '../float16.js';

/** Bytes of one element, by the format's own names; those of less than a byte are packed. */
export const DTYPE_BYTES = {
  F4: 1 / 2,
  F6_E2M3: 3 / 4,
  F6_E3M2: 3 / 4,
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E5M2FNUZ: 1,
  F8_E4M3FNUZ: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  I64: 8,
  U64: 8,
  F64: 8,
  C64: 8,
} as const;

export type Dtype = keyof typeof DTYPE_BYTES;

/**
 * The layouts of a byte: bits of the mantissa, exponent bias, and which patterns are special. Infinity and NaN
 * as in IEEE 754; or NaN alone, for all ones ("finite"); or for what would be -0 ("unsigned zero").
 * Micikevicius et al., 2022 (https://arxiv.org/abs/2209.05433); Noune et al., 2022
 * (https://arxiv.org/abs/2206.02915).
 */
const F8 = {
  F8_E5M2: { mantissa: 2, bias: 15, special: 'ieee' },
  F8_E4M3: { mantissa: 3, bias: 7, special: 'finite' },
  F8_E5M2FNUZ: { mantissa: 2, bias: 16, special: 'unsigned zero' },
  F8_E4M3FNUZ: { mantissa: 3, bias: 8, special: 'unsigned zero' },
} as const;

type F8Dtype = keyof typeof F8;

/** Types that convert to fp32. */
type FloatDtype = 'F16' | 'BF16' | 'F32' | 'F64' | F8Dtype;

export function isDtype(name: string): name is Dtype {
  return Object.hasOwn(DTYPE_BYTES, name);
}

export function isFloat(dtype: Dtype): dtype is FloatDtype {
  return isF8(dtype) || dtype === 'F16' || dtype === 'BF16' || dtype === 'F32' || dtype === 'F64';
}

function isF8(dtype: Dtype): dtype is F8Dtype {
  return Object.hasOwn(F8, dtype);
}

/** The number that a byte stands for. */
function f8Value(dtype: F8Dtype, byte: number): number {
  const { mantissa: width, bias, special } = F8[dtype];
  const magnitude = byte & 0x7f;
  const exponent = magnitude >> width;
  const fraction = magnitude & ((1 << width) - 1);
  const sign = byte & 0x80 ? -1 : 1;
  if (special === 'unsigned zero' && byte === 0x80) return Number.NaN;
  if (special === 'finite' && magnitude === 0x7f) return Number.NaN;
  if (special === 'ieee' && exponent === 0x7f >> width) return fraction === 0 ? sign * Infinity : Number.NaN;
  return (
    sign * (fraction + (exponent === 0 ? 0 : 1 << width)) * powerOfTwo(Math.max(exponent, 1) - bias - width)
  );
}

/** 2^n, a normal fp32 number. */
function powerOfTwo(n: number): number {
  return new Float32Array(Uint32Array.of((127 + n) << 23).buffer)[0]!;
}

const f8Tables = new Map<F8Dtype, Float32Array>();

function f8Table(dtype: F8Dtype): Float32Array {
  const found = f8Tables.get(dtype) ?? Float32Array.from({ length: 256 }, (_, byte) => f8Value(dtype, byte));
  f8Tables.set(dtype, found);
  return found;
}

/** Bits of the fp32 number that equals a half-precision one; NaN keeps its payload. */
function halfBits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (mantissa << 13);
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (mantissa << 13);
  if (mantissa === 0) return sign;
  // A subnormal is mantissa * 2^-24; it is normalised by moving its leading bit into the implicit place.
  const shift = Math.clz32(mantissa) - 21;
  return sign | ((113 - shift) << 23) | (((mantissa << shift) & 0x3ff) << 13);
}

let halves: Uint32Array | null = null;

function halfTable(): Uint32Array {
  if (halves === null) {
    halves = new Uint32Array(65536);
    for (let half = 0; half < 65536; half++) halves[half] = halfBits(half);
  }
  return halves;
}

/**
 * Converts out.length little-endian elements from the beginning of `source` to fp32 (F64 is rounded to
 * nearest even).
 *
 * @param source starts at a multiple of 8 bytes in its buffer.
 */
export function convertToFloat32(dtype: FloatDtype, source: Uint8Array, out: Float32Array): void {
  const { buffer, byteOffset } = source;
  const count = out.length;
  // Bits are copied instead of numbers, so that the payloads of NaN survive.
  const bits = new Uint32Array(out.buffer, out.byteOffset, count);
  switch (dtype) {
    case 'F32':
      bits.set(new Uint32Array(buffer, byteOffset, count));
      return;
    case 'F16': {
      const table = halfTable();
      const from = new Uint16Array(buffer, byteOffset, count);
      for (let i = 0; i < count; i++) bits[i] = table[from[i]!]!;
      return;
    }
    case 'BF16': {
      const from = new Uint16Array(buffer, byteOffset, count);
      for (let i = 0; i < count; i++) bits[i] = from[i]! << 16;
      return;
    }
    case 'F64':
      out.set(new Float64Array(buffer, byteOffset, count));
      return;
    default: {
      const table = f8Table(dtype);
      for (let i = 0; i < count; i++) out[i] = table[source[i]!]!;
    }
  }
}

/** Types to which fp32 can be converted. */
export type OutputDtype = 'F32' | 'F16' | 'BF16';

/**
 * Converts fp32 to `dtype`, rounding to nearest even.
 *
 * @returns the number of finite values that became infinite.
 */
export function convertFromFloat32(dtype: OutputDtype, source: Float32Array, out: Uint8Array): number {
  const count = source.length;
  const bits = new Uint32Array(source.buffer, source.byteOffset, count);
  if (dtype === 'F32') {
    new Uint32Array(out.buffer, out.byteOffset, count).set(bits);
    return 0;
  }
  const to = new Uint16Array(out.buffer, out.byteOffset, count);
  // A value that is finite in fp32 and infinite in the result has overflowed.
  const infinity = dtype === 'F16' ? 0x7c00 : 0x7f80;
  let overflows = 0;
  for (let i = 0; i < count; i++) {
    const half = dtype === 'F16' ? toFloat16Bits(source[i]!) : brainBits(bits[i]!);
    to[i] = half;
    if ((half & 0x7fff) === infinity && (bits[i]! & 0x7fffffff) < 0x7f800000) overflows++;
  }
  return overflows;
}

/** The nearest bf16, ties to even; NaN stays NaN. */
function brainBits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return ((bits >>> 16) | 0x40) & 0xffff;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}
