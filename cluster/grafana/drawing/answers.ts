/** The answers of a Prometheus to the queries of a dashboard over a span of time. */
import type { Board, Query } from '../board.js';
import { type Annotation, annotations } from '../queries/annotations.js';

export interface Span {
  /** Seconds since 1970. */
  from: number;
  to: number;
  step: number;
}

export interface Line {
  name: string;
  run: string;
  /** Seconds since 1970, and the value. */
  points: [time: number, value: number][];
}

export interface Mark {
  annotation: Annotation;
  time: number;
}

export interface Answers {
  span: Span;
  lines: ReadonlyMap<Query, Line[]>;
  marks: Mark[];
}

type Ask = (expr: string) => Promise<{ metric: Record<string, string>; values: [number, string][] }[]>;

/** Asks a Prometheus for all runs. */
export async function askFor(board: Board, address: string, span: Span): Promise<Answers> {
  const ask: Ask = async (expr) => {
    const parameters = new URLSearchParams({
      query: expr.replaceAll('$run', '.+').replaceAll('$__rate_interval', `${4 * span.step}s`),
      start: String(span.from),
      end: String(span.to),
      step: String(span.step),
    });
    const response = await fetch(`${address}/api/v1/query_range?${parameters}`);
    const answer = (await response.json()) as { error?: string; data: { result: Awaited<ReturnType<Ask>> } };
    if (answer.error !== undefined) throw new Error(`${expr}: ${answer.error}`);
    return answer.data.result;
  };
  const queries = new Set(board.rows.flatMap(({ panels }) => panels.flatMap((panel) => panel.queries)));
  const lines = new Map<Query, Line[]>();
  for (const query of queries) {
    const result = await ask(query.expr);
    const named = result.map(({ metric, values }) => ({
      name: nameOf(query.legend, metric),
      run: nameOf('{{run}}', metric),
      points: values.map(([time, value]): [number, number] => [time, Number(value)]),
    }));
    lines.set(
      query,
      named.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true })),
    );
  }
  const marks: Mark[] = [];
  for (const annotation of annotations) {
    for (const { values } of await ask(annotation.expr)) {
      marks.push(...timesOf(annotation, values).map((time) => ({ annotation, time })));
    }
  }
  return { span, lines, marks: marks.filter(({ time }) => time >= span.from && time <= span.to) };
}

/** A legend with the labels' values; of a run only its name, because the time of its start is long. */
function nameOf(legend: string, metric: Record<string, string>): string {
  return legend.replaceAll(/\{\{(\w+)\}\}/g, (_, label: string) => {
    const value = metric[label] ?? '';
    return label === 'run' ? value.replace(/@.*/, '') : value;
  });
}

/** When something happened: at the times that the values are, or where an answer begins. */
function timesOf({ valueIsTime }: Annotation, values: [number, string][]): number[] {
  if (valueIsTime) return [...new Set(values.map(([, value]) => Number(value) / 1000))];
  return values.length === 0 ? [] : [values[0]![0]];
}
