/** Which variants a report shows, and in which order. */
import { mean } from '../averages.js';
import type { Results, SettingResult, VariantResult } from './result-types.js';

/** The order of the report: by rank, or where there is none, by the error of the noise estimate. */
export function inOrder(results: Results): VariantResult[] {
  const key = ({ ranks, losses }: VariantResult) => {
    if (ranks !== null) return ranks.all.mean;
    const errors = Object.values(losses).map(({ loss, epsilonError }) => (epsilonError ?? loss).mean);
    return errors.length === 0 ? Number.POSITIVE_INFINITY : 1e6 + mean(errors);
  };
  return [...results.variants].sort((a, b) => key(a) - key(b));
}

/** The best of each family, in the order of the report. */
export function bestOfFamilies(results: Results): VariantResult[] {
  const started = inOrder(results).filter(({ runs }) => runs.some(({ best }) => best !== null));
  return started.filter((one, i) => started.findIndex(({ family }) => family === one.family) === i);
}

/** The scores of a variant at the setting that the report shows. */
export function shownSetting(
  results: Results,
  { settings }: VariantResult,
  data: string,
): SettingResult | null {
  const { evaluation } = results;
  const found = settings.find(
    (one) => one.data === data && one.weights === evaluation?.weights[0] && one.sampler === evaluation.shown,
  );
  return found ?? null;
}
