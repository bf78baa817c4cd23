/** What the dashboard "Data and checkpoints" asks. */
import type { Query } from '../board.js';

export const storage = {
  dataWait: {
    expr: 'sum by (run, rank) (rate(orchestrator_worker_phase_seconds_total{run=~"$run", phase="data"}[$__rate_interval])) / (sum by (run, rank) (rate(orchestrator_worker_phase_seconds_total{run=~"$run"}[$__rate_interval])) > 0)',
    legend: '{{run}} rank {{rank}}',
  },
  skippedRows: { expr: 'sum by (run) (orchestrator_skipped_rows_total{run=~"$run"})', legend: '{{run}}' },
  checkpointStep: { expr: 'max by (run) (orchestrator_checkpoint_step{run=~"$run"})', legend: '{{run}}' },
  age: {
    expr: 'time() - max by (run) (orchestrator_checkpoint_timestamp_seconds{run=~"$run"})',
    legend: '{{run}}',
  },
  stepsSince: {
    expr: 'max by (run) (orchestrator_committed_steps{run=~"$run"}) - (max by (run) (orchestrator_checkpoint_step{run=~"$run"}) or max by (run) (orchestrator_resumed_step{run=~"$run"}))',
    legend: '{{run}}',
  },
  interval: {
    expr: 'max by (run) (orchestrator_checkpoint_interval_steps{run=~"$run"})',
    legend: '{{run}}, checkpoint.every',
  },
  failed: {
    expr: 'sum by (run) (orchestrator_checkpoints_missed_total{run=~"$run", reason="failed"})',
    legend: '{{run}}',
  },
  skipped: {
    expr: 'sum by (run) (orchestrator_checkpoints_missed_total{run=~"$run", reason="skipped"})',
    legend: '{{run}}',
  },
  writeSeconds: {
    expr: 'max by (run) (orchestrator_checkpoint_write_seconds{run=~"$run"})',
    legend: '{{run}}',
  },
  stallSeconds: {
    expr: 'sum by (run) (orchestrator_checkpoint_stall_seconds_total{run=~"$run"})',
    legend: '{{run}}, training waited in all',
  },
  size: { expr: 'max by (run) (orchestrator_checkpoint_bytes{run=~"$run"})', legend: '{{run}}' },
  free: { expr: 'min by (run) (orchestrator_disk_free_bytes{run=~"$run"})', legend: '{{run}}' },
  freeInCheckpoints: {
    expr: 'min by (run) (orchestrator_disk_free_bytes{run=~"$run"}) / max by (run) (orchestrator_checkpoint_bytes{run=~"$run"})',
    legend: '{{run}}',
  },
} as const satisfies Record<string, Query>;
