/** Names of formulations, as the SD3 paper writes them: `rf/lognorm(0.50,0.60)`, `edm(-1.2,1.2)`, `v/cos`. */
import { OrchestratorError } from '../errors.js';
import { nearest } from '../text/nearest.js';
import { build, FAMILIES, type Formulation } from './formulations.js';

const NUMBER = String.raw`\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*`;

/** A form: its text, the names of its parameters, and the pattern of the names that are of it. */
const FORMS = Object.keys(FAMILIES).map((form) => {
  const [, stem, inside] = /^([^(]*)(?:\((.*)\))?$/.exec(form)!;
  const words = inside?.split(',') ?? [];
  const parameters = words.filter((word) => word !== 'matched');
  const pattern = words.map((word) => (word === 'matched' ? word : NUMBER)).join(',');
  const parentheses = inside === undefined ? '' : String.raw`\(${pattern}\)`;
  return { form, stem: stem!, parameters, pattern: stem + parentheses };
});

/** "rf, rf/lognorm(m,s), ... or eps/ddpm". */
export const FORMULATION_FORMS = FORMS.map(({ form }) => form)
  .join(', ')
  .replace(/, (?=[^ ]*$)/, ' or ');

/** Pattern of `objective.formulation`; `formulationProblem` checks the ranges. */
export const FORMULATION_PATTERN = new RegExp(`^(?:${FORMS.map(({ pattern }) => pattern).join('|')})$`);

function parse(name: string) {
  const found = FORMS.find(({ pattern }) => new RegExp(`^(?:${pattern})$`).test(name));
  if (found === undefined) return null;
  const values = found.parameters.length === 0 ? [] : /\((.*)\)/.exec(name)![1]!.split(',').map(Number);
  return { ...found, values };
}

/** The shortest spelling of a name, so that `rf/lognorm(0.50, .6)` is `rf/lognorm(0.5,0.6)`. */
export function canonicalName(name: string): string {
  const parsed = parse(name);
  if (parsed === null || parsed.values.length === 0) return name;
  return `${parsed.stem}(${parsed.values.map(String).join(',')})`;
}

/** The expected range of a parameter that is out of range; null also for a name of no formulation. */
export function formulationProblem(name: string): string | null {
  const parsed = parse(name);
  for (const [i, parameter] of (parsed?.parameters ?? []).entries()) {
    const { form, values } = parsed!;
    const range = FAMILIES[form]!.ranges?.[parameter];
    const fits = Number.isFinite(values[i]) && (range === undefined || range.includes(values[i]!));
    if (!fits) return `${parameter} of ${form} to be ${range?.inWords ?? 'a finite number'}`;
  }
  return null;
}

/**
 * The formulation of a name.
 *
 * @param key what names it, for the error.
 * @throws OrchestratorError ERR_CONFIG.
 */
export function formulationOf(name: string, key = 'objective.formulation'): Formulation {
  const parsed = parse(name);
  const problem = formulationProblem(name);
  if (parsed !== null && problem === null) return build(parsed.form, canonicalName(name), parsed.values);
  const forms = FORMS.map(({ form }) => form);
  const near = parsed === null ? nearest(name, forms) : null;
  const advice = near === null ? '' : `; did you mean ${near}`;
  const expected = `expected ${problem ?? FORMULATION_FORMS}, received "${name}"${advice}`;
  throw new OrchestratorError('ERR_CONFIG', `${key}: ${expected}`);
}

/** The formulation of a configuration from before `objective.density` became a part of the name. */
export function nameWithDensity(density: string): string {
  return canonicalName(density === 'uniform' ? 'rf' : `rf/${density}`);
}
