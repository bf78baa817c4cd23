/** What marks times on every dashboard. */
import type { Query } from '../board.js';

export interface Annotation extends Query {
  name: string;
  colour: string;
  /** The value is the time of the mark, in milliseconds. */
  valueIsTime?: true;
}

export const annotations: readonly Annotation[] = [
  {
    name: 'Checkpoints',
    colour: 'blue',
    expr: '1000 * max by (run) (orchestrator_checkpoint_timestamp_seconds{run=~"$run"})',
    legend: 'checkpoint of {{run}}',
    valueIsTime: true,
  },
  {
    name: 'Restarts',
    colour: 'purple',
    expr: 'changes(max by (run) (orchestrator_generation{run=~"$run"})[1m:]) > 0',
    legend: 'new generation of {{run}}',
  },
  {
    name: 'Alerts',
    colour: 'red',
    expr: 'max by (run, alertname) (ALERTS{alertstate="firing", run=~"$run"})',
    legend: '{{alertname}} of {{run}}',
  },
];
