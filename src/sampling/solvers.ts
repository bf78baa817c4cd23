/** The solvers that sampling can follow a path with. */
import type { Coefficients, Denoised } from '../objective/coefficients.js';
import { dpmpp2m } from './dpmpp-2m.js';
import { euler } from './euler.js';
import { heun } from './heun.js';

/** Estimates data and noise from z at a point of the path. */
type Model = (z: Float32Array, at: Coefficients) => Promise<Denoised>;

/**
 * Follows a path from its first point to its last, and returns z there in a new array. `onStep` is called
 * with the number of completed steps. z is kept in fp32; a step is computed in double precision.
 */
export type Solver = (
  model: Model,
  start: Float32Array,
  path: readonly Coefficients[],
  onStep: (done: number) => void,
) => Promise<Float32Array>;

/** One entry for each solver. */
export const SOLVERS = { euler, heun, 'dpmpp-2m': dpmpp2m } as const satisfies Record<string, Solver>;

export type SolverName = keyof typeof SOLVERS;
