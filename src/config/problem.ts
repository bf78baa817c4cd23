/** One problem of a configuration, and its line in an error. */

export interface Problem {
  /** "run.yaml:3:5", "--set batch.micro=x", "ORCHESTRATOR_BATCH__MICRO". */
  place: string;
  /** Dotted key; empty if the problem concerns the whole file. */
  key: string;
  /** "expected X, received Y; did you mean Z". */
  text: string;
}

export function formatProblem({ place, key, text }: Problem): string {
  return key === '' ? `${place}: ${text}` : `${place}: ${key}: ${text}`;
}
