/** Formulations beside those of the program, which follow other paths. */
import { densityOf } from '../../src/objective/density.js';
import { FORMULATIONS, type Formulation } from '../../src/objective/formulations.js';
import { Objective } from '../../src/objective/objective.js';

/** `v/cos`: a variance-preserving path with the target v = a eps - b x0. */
const vCos: Formulation = (t) => {
  const a = Math.cos((Math.PI / 2) * t);
  const b = Math.sin((Math.PI / 2) * t);
  return { a, b, p: -b, q: a, weight: 1, timestep: 1000 * t };
};

export const EDM_DEVIATION = 0.5;
export const EDM_SIGMA = 10;

/**
 * EDM (Karras et al., 2022) with noise levels sigma spread evenly: the network's input is
 * (x0 + sigma eps) / sqrt(sigma^2 + d^2), its target F = (sigma / d x0 - d eps) / sqrt(sigma^2 + d^2).
 */
const edm: Formulation = (t) => {
  const d = EDM_DEVIATION;
  const sigma = EDM_SIGMA * t;
  const scale = Math.sqrt(sigma * sigma + d * d);
  return {
    a: 1 / scale,
    b: sigma / scale,
    p: sigma / d / scale,
    q: -d / scale,
    weight: 1,
    timestep: 1000 * t,
  };
};

export const PATHS = { rf: FORMULATIONS.rf as Formulation, 'v/cos': vCos, edm };

/** An objective with uniform times. */
export function uniformObjective(formulation: Formulation, shift = 1): Objective {
  return new Objective(formulation, densityOf('uniform'), shift);
}
