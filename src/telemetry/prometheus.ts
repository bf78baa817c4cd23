/**
 * The coordinator's /metrics, /healthz and /readyz. Metrics use base units, bounded labels and no step label.
 */
import { createServer, type Server } from 'node:http';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { OrchestratorError } from '../errors.js';
import type { RunHeader, Sink } from './record.js';

const PREFIX = 'orchestrator_';
const TEXT = { 'content-type': 'text/plain; charset=utf-8' };
const STEP_BUCKETS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300];

export interface MetricsServer extends Sink {
  /** "http://127.0.0.1:9464" */
  readonly address: string;
}

/** Starts the server, which runs until it is closed. Port 0 takes any free port. */
export async function serveMetrics(host: string, port: number, header: RunHeader): Promise<MetricsServer> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: `${PREFIX}coordinator_` });
  const { sink, phase } = instruments(registry, header);
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://localhost').pathname;
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.writeHead(405, { allow: 'GET, HEAD' }).end();
    } else if (path === '/metrics') {
      registry.metrics().then(
        (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
        (error: Error) => response.writeHead(500, TEXT).end(`${error.message}\n`),
      );
    } else if (path === '/healthz') {
      const healthy = phase() !== 'FAILED';
      response.writeHead(healthy ? 200 : 503, TEXT).end(`${phase()}\n`);
    } else if (path === '/readyz') {
      const ready = ['RUNNING', 'DRAINING', 'CHECKPOINTING'].includes(phase());
      response.writeHead(ready ? 200 : 503, TEXT).end(`${phase()}\n`);
    } else {
      response.writeHead(404, TEXT).end('metrics, healthz, readyz\n');
    }
  });
  await listen(server, host, port);
  const bound = server.address();
  const actual = typeof bound === 'object' && bound !== null ? bound.port : port;
  return {
    ...sink,
    address: `http://${host.includes(':') ? `[${host}]` : host}:${actual}`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'the port is in use by another process' : error.message;
      reject(
        new OrchestratorError('ERR_PORT', `Cannot serve metrics on ${host}:${port}: ${why}`, {
          hint: 'Set telemetry.metrics_port to another port, to 0 (any free one) or to null (off)',
          cause: error,
        }),
      );
    });
    server.listen(port, host, resolve);
  });
}

/** The metrics of a run and the sink that updates them. docs/reference/metrics.md is generated from them. */
export function instruments(registry: Registry, header: RunHeader): { sink: Sink; phase: () => string } {
  const registers = [registry];
  const gauge = <L extends string>(name: string, help: string, labelNames: L[] = []) =>
    new Gauge({ name: PREFIX + name, help, labelNames, registers });
  const counter = <L extends string>(name: string, help: string, labelNames: L[] = []) =>
    new Counter({ name: PREFIX + name, help, labelNames, registers });

  const info = gauge('run_info', 'Always 1; the label is the name of the run.', ['name']);
  const target = gauge('target_steps', 'Steps of the whole run.');
  const workers = gauge('workers', 'Workers of the run.');
  info.set({ name: header.name }, 1);
  target.set(header.steps);
  workers.set(header.workers);

  const phases = gauge('phase', '1 for the current phase of the run.', ['phase']);
  const steps = gauge('committed_steps', 'Committed steps, including those before a resume.');
  const samples = counter('samples_total', 'Samples of the steps that this process committed.');
  const seconds = new Histogram({
    name: `${PREFIX}step_seconds`,
    help: 'Seconds from one commit to the next.',
    buckets: STEP_BUCKETS,
    registers,
  });
  const loss = gauge('loss', 'Mean weighted loss of the last step.');
  const norm = gauge('gradient_norm', 'Global L2 norm of the gradient before clipping.');
  const rate = gauge('learning_rate', 'Learning rate of the last step.');
  const flops = gauge('model_flops_per_second', 'Model FLOP/s of the last step.');
  const logits = gauge('attention_max_abs_logit', 'Largest attention logit.', ['attention']);
  const entropy = gauge('attention_mean_entropy_nats', 'Mean entropy of the attention rows.', ['attention']);
  const validation = gauge('validation_loss', 'Loss on held-out rows by bin of t.', ['weights', 'bin']);
  const compute = counter('worker_compute_seconds_total', 'Forward and backward, summed over threads.', [
    'rank',
  ]);
  const gather = counter('worker_gather_seconds_total', 'Gathering rows, summed over threads.', ['rank']);
  const exchange = counter('worker_exchange_seconds_total', 'Gradient exchange not hidden behind compute.', [
    'rank',
  ]);
  const update = counter('worker_update_seconds_total', 'Optimizer update.', ['rank']);
  const received = counter('worker_exchange_received_bytes_total', 'Gradient bytes received.', ['rank']);
  const resident = gauge('worker_resident_memory_bytes', 'Resident memory.', ['rank']);
  const native = gauge('worker_native_memory_bytes', 'Memory allocated by the engine.', ['rank']);
  const device = gauge('worker_device_memory_bytes', 'GPU memory allocated by the worker.', [
    'rank',
    'device',
  ]);
  const loop = gauge('worker_event_loop_p99_seconds', '99th percentile of the event-loop delay.', ['rank']);
  const saved = gauge('checkpoint_step', 'Step of the last checkpoint.');
  const saving = gauge('checkpoint_write_seconds', 'Seconds that the last checkpoint took to write.');
  const stall = counter('checkpoint_stall_seconds_total', 'Seconds that training waited for checkpoints.');

  let current = 'INIT';
  const sink: Sink = {
    phase: (phase) => {
      phases.remove({ phase: current });
      phases.set({ phase }, 1);
      current = phase;
    },
    step: (record) => {
      steps.set(record.step);
      samples.inc(record.samples);
      seconds.observe(record.seconds);
      loss.set(record.loss);
      norm.set(record.gradientNorm);
      rate.set(record.learningRate);
      flops.set(record.flops / record.seconds);
      for (const { name, maxAbsLogit, meanEntropy } of record.attention ?? []) {
        logits.set({ attention: name }, maxAbsLogit);
        entropy.set({ attention: name }, meanEntropy);
      }
      for (const worker of record.workers) {
        const rank = { rank: String(worker.rank) };
        compute.inc(rank, worker.computeSeconds);
        gather.inc(rank, worker.gatherSeconds);
        exchange.inc(rank, worker.exchangeSeconds);
        update.inc(rank, worker.updateSeconds);
        received.inc(rank, worker.exchangeBytes);
        resident.set(rank, worker.rssBytes);
        native.set(rank, worker.nativeBytes);
        if (worker.device !== '') device.set({ ...rank, device: worker.device }, worker.deviceBytes);
        loop.set(rank, worker.eventLoopP99Seconds);
      }
    },
    validation: ({ results }) => {
      for (const { weights, bins } of results) {
        for (const { name, loss: value } of bins) validation.set({ weights, bin: name }, value);
      }
    },
    checkpoint: (record) => {
      saved.set(record.step);
      saving.set(record.seconds);
      stall.inc(record.stallSeconds);
    },
  };
  return { sink, phase: () => current };
}
