/** What the dashboard "Training" asks. One series per run: max drops the address, which changes with restarts. */
import type { Query } from '../board.js';

export const training = {
  phase: {
    expr: 'max by (run, phase) (orchestrator_phase{run=~"$run"})',
    legend: '{{run}} {{phase}}',
  },
  step: { expr: 'max by (run) (orchestrator_committed_steps{run=~"$run"})', legend: '{{run}}' },
  done: {
    expr: 'max by (run) (orchestrator_committed_steps{run=~"$run"}) / max by (run) (orchestrator_target_steps{run=~"$run"})',
    legend: '{{run}}',
  },
  remaining: {
    expr: '(max by (run) (orchestrator_target_steps{run=~"$run"}) - max by (run) (orchestrator_committed_steps{run=~"$run"})) * sum by (run) (rate(orchestrator_step_seconds_sum{run=~"$run"}[5m])) / (sum by (run) (rate(orchestrator_step_seconds_count{run=~"$run"}[5m])) > 0)',
    legend: '{{run}}',
  },
  loss: { expr: 'max by (run) (orchestrator_loss{run=~"$run"})', legend: '{{run}}' },
  lossMean: {
    expr: 'max by (run) (avg_over_time(orchestrator_loss{run=~"$run"}[5m]))',
    legend: '{{run}}, mean of 5 min',
  },
  lossByTime: {
    expr: 'sum by (run, bin) (rate(orchestrator_loss_by_time_sum_total{run=~"$run"}[5m])) / (sum by (run, bin) (rate(orchestrator_loss_by_time_samples_total{run=~"$run"}[5m])) > 0)',
    legend: '{{run}} {{bin}}',
  },
  validationMean: {
    expr: 'max by (run, weights) (orchestrator_validation_mean_loss{run=~"$run"})',
    legend: '{{run}} {{weights}}',
  },
  validationByBin: {
    expr: 'max by (run, weights, bin) (orchestrator_validation_loss{run=~"$run"})',
    legend: '{{run}} {{weights}} {{bin}}',
  },
  validationEpsilonError: {
    expr: 'max by (run, weights, log_snr) (orchestrator_validation_epsilon_error{run=~"$run"})',
    legend: '{{run}} {{weights}} {{log_snr}}',
  },
  validationSeconds: {
    expr: 'max by (run) (orchestrator_validation_seconds{run=~"$run"})',
    legend: '{{run}}',
  },
  emaDistance: { expr: 'max by (run) (orchestrator_ema_distance_ratio{run=~"$run"})', legend: '{{run}}' },
  learningRate: { expr: 'max by (run) (orchestrator_learning_rate{run=~"$run"})', legend: '{{run}}' },
  gradientNorm: { expr: 'max by (run) (orchestrator_gradient_norm{run=~"$run"})', legend: '{{run}}' },
  gradientNormByBlock: {
    expr: 'max by (run, block) (orchestrator_block_gradient_norm{run=~"$run"})',
    legend: '{{run}} {{block}}',
  },
  samplesPerSecond: {
    expr: 'sum by (run) (rate(orchestrator_samples_total{run=~"$run"}[$__rate_interval]))',
    legend: '{{run}}',
  },
  samples: { expr: 'sum by (run) (orchestrator_samples_total{run=~"$run"})', legend: '{{run}}' },
  epoch: { expr: 'max by (run) (orchestrator_epoch{run=~"$run"})', legend: '{{run}}' },
  flops: { expr: 'max by (run) (orchestrator_model_flops_per_second{run=~"$run"})', legend: '{{run}}' },
  peak: {
    expr: 'max by (run) (orchestrator_matmul_peak_flops_per_second{run=~"$run"})',
    legend: '{{run}}, matmul peak',
  },
  ofPeak: {
    expr: 'max by (run) (avg_over_time(orchestrator_matmul_peak_ratio{run=~"$run"}[5m]))',
    legend: '{{run}}',
  },
  nonFinite: { expr: 'sum by (run) (orchestrator_non_finite_steps_total{run=~"$run"})', legend: '{{run}}' },
} as const satisfies Record<string, Query>;
