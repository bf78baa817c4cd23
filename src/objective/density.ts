/** Densities from which t is drawn (SD3 paper, section 3.1; t = 0 is data, t = 1 is noise). */
import { OrchestratorError } from '../errors.js';
import { elementary } from '../native/elementary.js';
import { normalPair } from '../random/philox.js';

/** Draws t in [0, 1] from two independent uniforms in (0, 1). */
export type Density = (u1: number, u2: number) => number;

interface DensityKind {
  draw(u1: number, u2: number, ...parameters: number[]): number;
  /** Ranges of parameters by name; a parameter without a range may be any number. */
  ranges?: Readonly<Record<string, { inWords: string; includes(value: number): boolean }>>;
}

/** Largest s for which f(u) = 1 - u - s (cos^2(pi u / 2) - 1 + u) is monotonic. */
export const MODE_LIMIT = 2 / (Math.PI - 2);

/** One entry for each density, under the form in which the configuration writes it. */
const DENSITIES: Readonly<Record<string, DensityKind>> = {
  uniform: { draw: (u) => u },
  // u ~ N(m, s^2), t = sigmoid(u): a positive m favours noise.
  'lognorm(m, s)': {
    draw: (u1, u2, m, s) => 1 / (1 + elementary().exp(-(m! + s! * normalPair(u1, u2)[0]))),
    ranges: { s: { inWords: 'greater than 0', includes: (s) => s > 0 } },
  },
  'mode(s)': {
    draw(u, _, s) {
      const cosine = elementary().cos((Math.PI / 2) * u);
      return 1 - u - s! * (cosine * cosine - 1 + u);
    },
    ranges: {
      s: { inWords: `from -1 to ${MODE_LIMIT.toFixed(4)}`, includes: (s) => s >= -1 && s <= MODE_LIMIT },
    },
  },
  cosmap: { draw: (u) => 1 - 1 / (elementary().tan((Math.PI / 2) * u) + 1) },
};

/** The name of a form or of a written density, and what stands for its parameters. */
function split(text: string): [name: string, ...parameters: string[]] {
  const [name, ...parameters] = text.split(/[(,)]\s*/).filter((part) => part !== '');
  return [name!, ...parameters];
}

const NUMBER = String.raw`\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*`;
const FORMS = Object.keys(DENSITIES);
const PATTERNS = FORMS.map(split).map(([name, ...parameters]) =>
  parameters.length === 0 ? name : String.raw`${name}\(${parameters.map(() => NUMBER).join(',')}\)`,
);

/** "uniform, lognorm(m, s), mode(s) or cosmap". */
export const DENSITY_FORMS = `${FORMS.slice(0, -1).join(', ')} or ${FORMS.at(-1)}`;

/** Pattern of `objective.density`; `densityProblem` checks the ranges. */
export const DENSITY_PATTERN = new RegExp(`^(?:${PATTERNS.join('|')})$`);

/** The form of a written density, and its parameters' values. */
function parse(text: string): { form: string; values: number[] } {
  const [name, ...values] = split(text);
  const form = FORMS.find((form) => split(form)[0] === name);
  if (form !== undefined && DENSITY_PATTERN.test(text)) return { form, values: values.map(Number) };
  const expected = `expected ${DENSITY_FORMS}, received "${text}"`;
  throw new OrchestratorError('ERR_CONFIG', `objective.density: ${expected}`);
}

/** The expected range of a parameter that is out of range, or null. Throws ERR_CONFIG like `densityOf`. */
export function densityProblem(text: string): string | null {
  const { form, values } = parse(text);
  const ranges = DENSITIES[form]!.ranges ?? {};
  for (const [i, parameter] of split(form).slice(1).entries()) {
    const range = ranges[parameter];
    if (range && !range.includes(values[i]!)) return `${parameter} of ${form} to be ${range.inWords}`;
  }
  return null;
}

/** The density that is written as `text`. Throws ERR_CONFIG if it does not match DENSITY_PATTERN. */
export function densityOf(text: string): Density {
  const { form, values } = parse(text);
  return (u1, u2) => DENSITIES[form]!.draw(u1, u2, ...values);
}
