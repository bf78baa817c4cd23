/** The 61 formulations of the SD3 paper's study (Table 1 and section 5.1). */
import { canonicalName } from './names.js';

/** A formulation of the study, and its name in the paper, which rounds to two decimals. */
interface Studied {
  name: string;
  label: string;
}

/**
 * The counts and ranges are the paper's. The values between are a reconstruction: evenly spaced, and those
 * that its tables name. `mode` is one grid of seven over [-1, 1.75], 1.0, and 0, which is `rf`.
 */
const MODES = [-1, -0.542, -0.083, 0.375, 0.833, 1.292, 1, 1.75];
const LOGNORM_MEANS = [-1, -0.5, 0, 0.5, 1];
const LOGNORM_DEVIATIONS = [0.2, 0.6, 1, 1.4, 1.8, 2.2];
const EDM_MEANS = [-1.2, -0.6, 0, 0.6, 1.2];
const EDM_DEVIATIONS = [0.6, 1.2, 1.8];

function studied(stem: string, ...parameters: number[]): Studied {
  const written = (text: (value: number) => string) =>
    parameters.length === 0 ? stem : `${stem}(${parameters.map(text).join(',')})`;
  return { name: canonicalName(written(String)), label: written((value) => value.toFixed(2)) };
}

const pairs = (stem: string, first: readonly number[], second: readonly number[]) =>
  first.flatMap((a) => second.map((b) => studied(stem, a, b)));

export const STUDY: readonly Studied[] = [
  ...['eps/linear', 'v/linear', 'eps/cos', 'v/cos', 'rf'].map((name) => studied(name)),
  ...MODES.map((s) => studied('rf/mode', s)),
  ...pairs('rf/lognorm', LOGNORM_MEANS, LOGNORM_DEVIATIONS),
  studied('rf/cosmap'),
  ...pairs('edm', EDM_MEANS, EDM_DEVIATIONS),
  studied('edm/rf'),
  studied('edm/cos'),
];
