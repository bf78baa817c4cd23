/** The formulations that tests of paths, targets and samplers go through. */
import { formulationOf } from '../../src/objective/names.js';
import { Objective } from '../../src/objective/objective.js';
import { STUDY } from '../../src/objective/study.js';

/** One of each path and target. */
export const PATHS = [
  'rf',
  'v/cos',
  'eps/cos',
  'v/linear',
  'eps/linear',
  'edm(0,0.6)',
  'edm/rf',
  'edm/cos',
] as const;

/** The 61 of the study, and what the program has beside them. */
export const ALL = [...STUDY.map(({ name }) => name), 'eps/ddpm', 'edm/rf(matched)', 'edm/cos(matched)'];

export function objectiveNamed(name: string, shift = 1): Objective {
  return new Objective(formulationOf(name), shift);
}
