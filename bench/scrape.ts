/** The time and size of a scrape of a run with 64 workers and 38 blocks. */
import { PREFIX, workerNumbers } from '../src/telemetry/metrics.js';
import { serveMetrics } from '../src/telemetry/prometheus.js';
import type { RunHeader, StepRecord } from '../src/telemetry/record.js';
import { SCRAPE } from './goals.js';
import { print } from './report.js';

const WORKERS = 64;
const BLOCKS = 38;
const SCRAPES = 50;

export const LARGE_HEADER: RunHeader = {
  name: 'a-name-of-a-run',
  run: 'a-name-of-a-run@20261126-094430',
  steps: 500_000,
  workers: WORKERS,
  checkpointEvery: 1000,
  resumedStep: 0,
  runDir: 'runs/a-name-of-a-run',
  checkpoint: null,
  validatedWeights: 'ema',
  restarts: 0,
  coordinatorRestarts: 0,
};

/** A step with every metric, and as many digits as measured numbers have. */
export function largeStep(): StepRecord {
  let drawn = 0;
  const measured = () => ++drawn + 1 / 3;
  const blocks = Array.from({ length: BLOCKS }, (_, i) => `block ${i}`);
  const numbers = Object.fromEntries(Object.keys(workerNumbers({})).map((name) => [name, measured()]));
  return {
    step: 123_456,
    steps: LARGE_HEADER.steps,
    epoch: measured(),
    logged: true,
    attentionLogged: true,
    loss: measured(),
    gradientNorm: measured(),
    clipNorm: 1,
    learningRate: measured(),
    seconds: measured(),
    recordedSeconds: measured(),
    samples: 4096,
    flops: measured() * 1e15,
    matmulPeak: measured() * 1e15,
    times: Array.from({ length: 8 }, (_, i) => ({ name: `t=${i}`, sum: measured(), samples: 512 })),
    attention: blocks.flatMap((name) =>
      [
        [name, 'text'],
        [name, 'image'],
        [`${name} attn2`, 'image'],
      ].map(([of, stream]) => ({
        name: of!,
        stream: stream!,
        maxAbsLogit: measured(),
        meanEntropy: measured(),
        rows: 1,
        logitBound: measured(),
      })),
    ),
    gradientNorms: Object.fromEntries(blocks.map((name) => [name, measured()])),
    workers: Array.from({ length: WORKERS }, (_, rank) => ({
      rank,
      host: 'a',
      pid: 1,
      firstSlot: rank,
      endSlot: rank + 1,
      device: 'NVIDIA H100 80GB HBM3, GPU 0 of 8',
      numbers: workerNumbers(numbers),
    })),
    validating: false,
    stragglers: [],
    eta: null,
  };
}

export async function benchScrape(): Promise<void> {
  const server = await serveMetrics('127.0.0.1', 0, LARGE_HEADER, async () => ({ diskFree: 2 ** 40 }));
  const times: number[] = [];
  let text = '';
  for (let i = 0; i < SCRAPES; i++) {
    // Without a new record the server sends again what it rendered.
    server.step?.(largeStep());
    const started = performance.now();
    text = await (await fetch(`${server.address}/metrics`)).text();
    times.push(performance.now() - started);
  }
  await server.close?.();
  const median = times.sort((a, b) => a - b)[SCRAPES / 2]!;
  const series = text.split('\n').filter((line) => line.startsWith(PREFIX)).length;
  const missed = median > SCRAPE.milliseconds || text.length > SCRAPE.bytes ? '  MISSED' : '';
  print(
    `scrape of ${WORKERS} workers and ${BLOCKS} blocks: ${series} series, ${(text.length / 1000).toFixed(0)} kB ` +
      `(goal ${SCRAPE.bytes / 1000} kB), ${median.toFixed(1)} ms (goal ${SCRAPE.milliseconds} ms)${missed}`,
  );
}
