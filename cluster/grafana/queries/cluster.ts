/** What the dashboard "Cluster" asks. */
import type { Query } from '../board.js';

const perStep = (by: string, phases: string) =>
  `sum by (${by}) (rate(orchestrator_worker_phase_seconds_total{run=~"$run"${phases}}[$__rate_interval])) / on (run) group_left () (sum by (run) (rate(orchestrator_step_seconds_count{run=~"$run"}[$__rate_interval])) > 0)`;

/** Mean over the workers. */
const phase = (name: string): Query => ({
  expr: `avg by (run, phase) (${perStep('run, rank, phase', `, phase="${name}"`)})`,
  legend: '{{phase}}',
});

export const cluster = {
  workers: { expr: 'max by (run) (orchestrator_workers{run=~"$run"})', legend: '{{run}}' },
  generation: { expr: 'max by (run) (orchestrator_generation{run=~"$run"})', legend: '{{run}}' },
  coordinators: {
    expr: 'max by (run) (orchestrator_coordinator_restarts_total{run=~"$run"})',
    legend: '{{run}}, coordinator',
  },
  restarts: { expr: 'max by (run) (orchestrator_restarts_total{run=~"$run"})', legend: '{{run}}' },
  replayed: { expr: 'sum by (run) (orchestrator_replayed_steps_total{run=~"$run"})', legend: '{{run}}' },
  mismatches: { expr: 'sum by (run) (orchestrator_state_mismatches_total{run=~"$run"})', legend: '{{run}}' },
  sinceStep: {
    // At the time of the scrape: now, it would be up to a scrape interval more.
    expr: 'min by (run) (timestamp(orchestrator_last_step_timestamp_seconds{run=~"$run"}) - orchestrator_last_step_timestamp_seconds{run=~"$run"})',
    legend: '{{run}}',
  },
  stepSeconds: {
    expr: 'sum by (run) (rate(orchestrator_step_seconds_sum{run=~"$run"}[$__rate_interval])) / (sum by (run) (rate(orchestrator_step_seconds_count{run=~"$run"}[$__rate_interval])) > 0)',
    legend: '{{run}}',
  },
  stepSecondsHigh: {
    expr: 'histogram_quantile(0.9, sum by (run, le) (rate(orchestrator_step_seconds_bucket{run=~"$run"}[5m])))',
    legend: '{{run}}, 90 of 100 are shorter',
  },
  data: phase('data'),
  forward: phase('forward'),
  backward: phase('backward'),
  gpuCompute: phase('compute'),
  exchange: phase('exchange'),
  commit: phase('commit'),
  update: phase('update'),
  compute: {
    expr: perStep('run, rank', ', phase=~"data|forward|backward|compute"'),
    legend: '{{run}} rank {{rank}}',
  },
  slow: {
    expr: 'sum by (run, rank) (rate(orchestrator_worker_slow_steps_total{run=~"$run"}[5m])) / on (run) group_left () (sum by (run) (rate(orchestrator_step_seconds_count{run=~"$run"}[5m])) > 0)',
    legend: '{{run}} rank {{rank}}',
  },
  exchangeSeconds: { expr: perStep('run, rank', ', phase="exchange"'), legend: '{{run}} rank {{rank}}' },
  exchangeBytes: {
    expr: 'sum by (run, rank) (rate(orchestrator_worker_exchange_received_bytes_total{run=~"$run"}[$__rate_interval]))',
    legend: '{{run}} rank {{rank}}',
  },
  resident: {
    expr: 'max by (run, rank) (orchestrator_worker_resident_memory_bytes{run=~"$run"})',
    legend: '{{run}} rank {{rank}}',
  },
  native: {
    expr: 'max by (run, rank) (orchestrator_worker_native_memory_bytes{run=~"$run"})',
    legend: '{{run}} rank {{rank}}',
  },
  gpuMemory: {
    expr: 'max by (run, rank, device) (orchestrator_worker_device_memory_bytes{run=~"$run"})',
    legend: '{{run}} rank {{rank}} {{device}}',
  },
  loopWorkers: {
    expr: 'max by (run, rank) (orchestrator_worker_event_loop_p99_seconds{run=~"$run"})',
    legend: '{{run}} rank {{rank}}',
  },
  loopCoordinator: {
    expr: 'max by (run) (orchestrator_coordinator_nodejs_eventloop_lag_p99_seconds{run=~"$run"})',
    legend: '{{run}} coordinator',
  },
} as const satisfies Record<string, Query>;
