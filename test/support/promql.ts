/** Queries in PromQL: read without a server, and sent to one. */
import { parser } from '@prometheus-io/lezer-promql';
import { METRICS, PREFIX } from '../../src/telemetry/metrics.js';

/** What is wrong with the query's syntax, or null. */
export function syntaxProblem(expr: string): string | null {
  let problem: string | null = null;
  parser.parse(expr).iterate({
    enter: ({ type, from }) => {
      if (type.isError) problem ??= `at character ${from + 1}: ${expr.slice(from, from + 20)}`;
    },
  });
  return problem;
}

/** Names of the metrics that the query asks for. */
export function metricsIn(expr: string): string[] {
  const names: string[] = [];
  parser.parse(expr).iterate({
    enter: ({ name, node }) => {
      if (name === 'VectorSelector')
        names.push(
          expr
            .slice(node.from, node.to)
            .replace(/[{[].*/s, '')
            .trim(),
        );
    },
  });
  return names;
}

/** Names of the series that /metrics has. */
export const SERIES: ReadonlySet<string> = new Set(
  Object.values(METRICS)
    .flat()
    .flatMap(({ name, type }) =>
      type === 'histogram'
        ? ['_bucket', '_sum', '_count'].map((suffix) => `${PREFIX}${name}${suffix}`)
        : [PREFIX + name],
    ),
);

/** A query as Grafana sends it, with all runs chosen. */
export function sent(expr: string, rateInterval: string): string {
  return expr.replaceAll('$run', '.+').replaceAll('$__rate_interval', rateInterval);
}
