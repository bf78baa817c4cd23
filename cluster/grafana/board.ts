/** A dashboard as data: which panels it has, what they ask, and what they mean. render.ts makes JSON of it. */

/** A query in PromQL. `$run` is the runs that the reader chose; `legend` names a series by its labels. */
export interface Query {
  expr: string;
  legend: string;
}

export interface Panel {
  title: string;
  /** line: lines over time; stack: areas on each other; heat: a row for each series; stat: the last number. */
  kind: 'line' | 'stack' | 'heat' | 'stat';
  /** What it shows, and what to do when it looks wrong. */
  description: string;
  /** Unit by Grafana's name; see UNITS. */
  unit: Unit;
  queries: readonly Query[];
  /** Columns of 24. */
  width: number;
  /** Values from which on a colour holds. */
  thresholds?: readonly { from: number; colour: 'orange' | 'red' }[];
  logarithmic?: true;
  /** Repeated for every run, because areas of several runs would lie on each other. */
  byRun?: true;
  /** A stat shows the names of its series instead of their values. */
  names?: true;
}

/** Grafana's names of units; what follows "suffix:" is written behind a number as it is. */
export const UNITS = [
  'short',
  'none',
  'percentunit',
  's',
  'bytes',
  'binBps',
  'flops',
  'suffix:img/s',
  'suffix:nats',
] as const;

export type Unit = (typeof UNITS)[number];

export interface Row {
  title: string;
  panels: readonly Panel[];
}

export interface Board {
  /** Part of its address, and the name of its file. */
  uid: string;
  title: string;
  description: string;
  rows: readonly Row[];
}
