/** Classifier-free guidance. */

/**
 * v_uncond + w (v_cond - v_uncond): w = 1 gives the conditional prediction, w = 0 the unconditional one.
 * (Some texts write (1 + w') v_cond - w' v_uncond; then w' = w - 1.)
 */
export function guide(conditional: Float32Array, unconditional: Float32Array, scale: number): Float32Array {
  return conditional.map((v, i) => unconditional[i]! + scale * (v - unconditional[i]!));
}
