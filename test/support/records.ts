/** Records of a run, as sinks get them. */
import type { RunHeader, StepRecord, WorkerReport } from '../../src/telemetry/record.js';

export const worker: WorkerReport = {
  rank: 0,
  host: 'a',
  pid: 4242,
  firstSlot: 0,
  endSlot: 2,
  device: '',
  numbers: {
    total_seconds: 0.31,
    gather_seconds: 0.02,
    gather_wait_seconds: 0.02,
    forward_seconds: 0.18,
    compute_seconds: 0.58,
    accumulate_seconds: 0.3,
    exchange_seconds: 0.012,
    commit_seconds: 0.002,
    update_seconds: 0.0081,
    exchange_bytes: 20e6,
    native_bytes: 2 ** 29,
    rss_bytes: 600 * 2 ** 20,
    device_bytes: 0,
    event_loop_p99_seconds: 0.002,
  },
};
/** The same with a GPU. */
export const onGpu: WorkerReport = {
  ...worker,
  device: 'H100, GPU 0 of 2',
  numbers: { ...worker.numbers, device_bytes: 2 ** 30 },
};

export const record: StepRecord = {
  step: 120,
  steps: 50_000,
  epoch: 3.07,
  logged: true,
  attentionLogged: true,
  loss: 0.42134,
  gradientNorm: 0.871,
  clipNorm: 1,
  learningRate: 1e-4,
  seconds: 0.312,
  recordedSeconds: 75,
  samples: 256,
  flops: 61e9,
  matmulPeak: 391e9,
  times: [
    { name: 't=0.0625', sum: 1.5, samples: 3 },
    { name: 't=0.9375', sum: 4, samples: 5 },
  ],
  attention: [
    { name: 'block 0', stream: 'text', maxAbsLogit: 4, meanEntropy: 2, rows: 10, logitBound: 8 },
    { name: 'block 0', stream: 'image', maxAbsLogit: 5, meanEntropy: 4, rows: 30, logitBound: 16 },
    { name: 'block 1', stream: 'image', maxAbsLogit: 9.31, meanEntropy: 1, rows: 30, logitBound: 0 },
    { name: 'block 1 attn2', stream: 'image', maxAbsLogit: 2, meanEntropy: 3, rows: 30, logitBound: 0 },
  ],
  gradientNorms: { final_layer: 0.5, 'block 1': 0.6, 'block 0': 0.3 },
  workers: [worker, { ...worker, rank: 1, pid: 4243, firstSlot: 2, endSlot: 4 }],
  validating: true,
  stragglers: [],
  eta: { seconds: 15_000, isRough: false },
};

export const header: RunHeader = {
  name: 'x',
  run: 'x@20261126-094430',
  steps: 50_000,
  workers: 2,
  checkpointEvery: 100,
  resumedStep: 50,
  restarts: 4,
  coordinatorRestarts: 1,
  runDir: 'runs/x',
  checkpoint: { step: 50, path: 'runs/x/checkpoints/step-00000050' },
  validatedWeights: 'ema',
};
