/** Element types of safetensors, and their conversion to and from fp32. */
import { toFloat16Bits } from '../float16.js';

/** Bytes of one element, by the format's own names. */
export const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
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
} as const;

export type Dtype = keyof typeof DTYPE_BYTES;

/** Types that convert to fp32. */
type FloatDtype = 'F16' | 'BF16' | 'F32' | 'F64';

export function isDtype(name: string): name is Dtype {
  return Object.hasOwn(DTYPE_BYTES, name);
}

export function isFloat(dtype: Dtype): dtype is FloatDtype {
  return dtype === 'F16' || dtype === 'BF16' || dtype === 'F32' || dtype === 'F64';
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
