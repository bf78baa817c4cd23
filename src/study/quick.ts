/** A study in small: what --quick changes. */
import { OrchestratorError } from '../errors.js';
import type { LoadedStudy } from './spec.js';

/** The study with the changes of its `quick`, under a name of its own, and the variants that it runs. */
export function quickened({ path, text, spec }: LoadedStudy): { study: LoadedStudy; only: string[] } {
  const { quick } = spec;
  if (quick === null) {
    throw new OrchestratorError('ERR_USAGE', `${path} has no "quick", which says what --quick changes`);
  }
  const small = {
    ...spec,
    name: `${spec.name}-quick`,
    set: { ...spec.set, ...quick.set },
    seeds: quick.seeds ?? spec.seeds,
    evaluation:
      spec.evaluation === null || quick.pictures === null
        ? spec.evaluation
        : { ...spec.evaluation, pictures: quick.pictures },
  };
  return { study: { path, text, spec: small }, only: quick.only ?? [] };
}
