/** The meaning of `precision.compute: auto` on a machine. */
import type { Config } from '../config/schema.js';

interface ResolvedPrecision {
  compute: 'fp32' | 'bf16';
  /** "auto: avx512bf16 multiplies bf16 at full speed", for logs and `doctor`. */
  reason: string;
}

/** A GPU, in the form that resolvePrecision expects. */
export const GPU = { isa: 'cuda', fastBf16: true };

export function resolvePrecision(
  compute: Config['precision']['compute'],
  host: { isa: string; fastBf16: boolean },
): ResolvedPrecision {
  if (compute !== 'auto') return { compute, reason: 'set by precision.compute' };
  return host.fastBf16
    ? { compute: 'bf16', reason: `auto: ${host.isa} multiplies bf16 at full speed` }
    : { compute: 'fp32', reason: `auto: ${host.isa} has no fast bf16` };
}
