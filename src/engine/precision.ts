/** The meaning of `precision.compute: auto` on a machine. */
import type { Config } from '../config/schema.js';

interface ResolvedPrecision {
  compute: 'fp32' | 'bf16';
  /** "auto: avx512bf16 multiplies bf16 at full speed", for logs and `doctor`. */
  reason: string;
  /** "bf16", or "bf16 with fp8 linear layers": what the bits depend on. */
  name: string;
}

/** A GPU, in the form that resolvePrecision expects. */
export const GPU = { isa: 'cuda', fastBf16: true };

export function resolvePrecision(
  { compute, linear }: Pick<Config['precision'], 'compute' | 'linear'>,
  host: { isa: string; fastBf16: boolean },
): ResolvedPrecision {
  const resolved = (type: 'fp32' | 'bf16', reason: string) => {
    const name = linear === 'fp8' ? `${type} with fp8 linear layers` : type;
    return { compute: type, reason, name };
  };
  if (compute !== 'auto') return resolved(compute, 'set by precision.compute');
  return host.fastBf16
    ? resolved('bf16', `auto: ${host.isa} multiplies bf16 at full speed`)
    : resolved('fp32', `auto: ${host.isa} has no fast bf16`);
}

/** "bf16 (auto: cuda multiplies bf16 at full speed), qkv, proj, fc1 and fc2 of all blocks in fp8" */
export function describePrecision({ compute, reason, name }: ResolvedPrecision): string {
  const layers =
    name === compute
      ? ''
      : ', the linear layers qkv, proj, fc1 and fc2 of all blocks in fp8 (E4M3; gradients E5M2)';
  return `${compute} (${reason})${layers}`;
}
