/** What marks times on every dashboard. */
import type { Query } from '../board.js';

export interface Annotation extends Query {
  name: string;
  colour: 'blue' | 'purple' | 'red';
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
    name: 'Generations',
    colour: 'purple',
    expr: '1000 * max by (run) (orchestrator_generation_timestamp_seconds{run=~"$run"})',
    legend: 'workers of {{run}} formed (start, resume or restart)',
    valueIsTime: true,
  },
  {
    name: 'Alerts',
    colour: 'red',
    expr: 'max by (run, alertname) (ALERTS{alertstate="firing", run=~"$run"})',
    legend: '{{alertname}} of {{run}}',
  },
];
