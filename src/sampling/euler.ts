/** Euler's method for the sampling ODE. */

/** Velocity dz/dt of a batch at time t. */
export type Velocity = (z: Float32Array, t: number) => Promise<Float32Array>;

/**
 * Integrates dz/dt = v(z, t) along descending times by Euler's method, and returns a new array. `onStep` is
 * called with the number of completed steps.
 */
export async function integrateEuler(
  velocity: Velocity,
  start: Float32Array,
  times: Float64Array,
  onStep: (done: number) => void = () => {},
): Promise<Float32Array> {
  const z = Float32Array.from(start);
  for (let i = 0; i + 1 < times.length; i++) {
    const v = await velocity(z, times[i]!);
    const dt = times[i + 1]! - times[i]!;
    for (let k = 0; k < z.length; k++) z[k] = z[k]! + dt * v[k]!;
    onStep(i + 1);
  }
  return z;
}
