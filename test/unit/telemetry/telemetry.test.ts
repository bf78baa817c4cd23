import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { SCRAPE } from '../../../bench/goals.js';
import { LARGE_HEADER, largeStep } from '../../../bench/scrape.js';
import type { Mapping } from '../../../src/files/json.js';
import type { JsonlFile } from '../../../src/files/jsonl.js';
import { painter, plainConsole, quietConsole, wantsColour } from '../../../src/telemetry/console.js';
import { stepLine } from '../../../src/telemetry/lines.js';
import { workerNumbers } from '../../../src/telemetry/metrics.js';
import { checkMetricsAddress } from '../../../src/telemetry/metrics-address.js';
import { metricsFile, stepObject } from '../../../src/telemetry/metrics-file.js';
import { validationResults } from '../../../src/telemetry/metrics-reader.js';
import { metricsLine } from '../../../src/telemetry/metrics-schema.js';
import { type MetricsServer, serveMetrics } from '../../../src/telemetry/prometheus.js';
import { recorderOf } from '../../../src/telemetry/record.js';
import { raw as rawTo, request } from '../../support/raw-http.js';
import { header, onGpu, record, worker } from '../../support/records.js';

const measure = async () => ({ diskFree: 2 ** 34 });

test('the line of a step', () => {
  expect(stepLine(record)).toBe(
    'step 120/50000 | loss 0.4213 | grad norm 0.87 | lr 1.0e-4 | 312 ms | 821 img/s | 196 GF/s | logit 9.3 | mem 1.2 GiB | eta 4h10m',
  );
  expect(stepLine({ ...record, eta: { seconds: 15_000, isRough: true } })).toMatch(/ \| eta ~4h10m$/);
  expect(stepLine({ ...record, attention: [], eta: null })).toMatch(/196 GF\/s \| mem 1.2 GiB$/);
});

describe('the terminal', () => {
  test('quiet, only notices, what goes wrong, and how the run ends', () => {
    let text = '';
    const sink = recorderOf([
      quietConsole((line) => {
        text += line;
      }),
    ]);
    sink.phase('RUNNING');
    sink.note('info', 'weights from seed 0');
    sink.note('notice', 'workers of other machines join at 10.0.0.1:4000');
    sink.step(record);
    sink.checkpoint({ step: 120, path: 'p', seconds: 1.5, stallSeconds: 0.002, bytes: 3e9 });
    sink.note('warn', 'ERR_DISK_FULL: no room');
    sink.note('notice', 'hint: delete something');
    sink.phase('DONE');
    sink.note('info', 'All 120 steps are done');
    const messages = text.split('\n').map((line) => line.slice('2026-11-26 13:40:12 '.length));
    expect(messages).toEqual([
      'workers of other machines join at 10.0.0.1:4000',
      'warn ERR_DISK_FULL: no room',
      'hint: delete something',
      'All 120 steps are done',
      '',
    ]);
  });

  test('plain lines for validations, checkpoints and notes', () => {
    let text = '';
    const sink = plainConsole((line) => {
      text += line;
    });
    const bins = [{ name: 't=0.25', loss: 0.4 }];
    const epsilon = [{ name: 'log_snr=-2.25', loss: 0.2 }];
    sink.validation({
      step: 200,
      seconds: 15.74,
      results: [
        { weights: 'ema', mean: 0.5, bins, epsilon },
        { weights: 'master', mean: 0.75, bins, epsilon },
      ],
      emaDistance: 0.01,
    });
    sink.checkpoint({ step: 200, path: 'p', seconds: 1.5, stallSeconds: 0.002, bytes: 3e9 });
    sink.note('warn', 'look');
    const lines = text.split('\n');
    for (const line of lines.slice(0, -1)) expect(line).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d /);
    expect(lines.map((line) => line.slice('2026-11-26 13:40:12 '.length))).toEqual([
      'validation at step 200 | ema 0.5000 | t=0.25 0.4000',
      'validation at step 200 | master 0.7500 | t=0.25 0.4000 | 15.7 s',
      'noise error at step 200 | ema | log_snr=-2.25 0.2000',
      'noise error at step 200 | master | log_snr=-2.25 0.2000',
      'checkpoint of step 200 in p | 1.5 s, of which training waited 2.0 ms',
      'warn look',
      '',
    ]);
  });

  test('NO_COLOR, dumb terminals and pipes get no colours, unless FORCE_COLOR says so', () => {
    expect(wantsColour({ isTTY: true }, {})).toBe(true);
    expect(wantsColour({ isTTY: true }, { NO_COLOR: '1' })).toBe(false);
    expect(wantsColour({ isTTY: true }, { TERM: 'dumb' })).toBe(false);
    expect(wantsColour({}, {})).toBe(false);
    expect(wantsColour({}, { FORCE_COLOR: '1', NO_COLOR: '1', TERM: 'dumb' })).toBe(true);
    expect(wantsColour({ isTTY: true }, { FORCE_COLOR: '0' })).toBe(false);
    expect(wantsColour({}, { FORCE_COLOR: '' })).toBe(false);
    expect(painter(false)('red', 'x')).toBe('x');
  });
});

test('metrics.jsonl names units and keeps what was measured', () => {
  expect(stepObject(record)).toMatchObject({
    type: 'step',
    step: 120,
    loss: 0.42134,
    samples_per_second: 256 / 0.312,
    attention: {
      'block 0': {
        max_abs_logit: 5,
        mean_entropy_nats: 3.5,
        text: { max_abs_logit: 4, mean_entropy_nats: 2, logit_bound: 8 },
        image: { max_abs_logit: 5, mean_entropy_nats: 4, logit_bound: 16 },
      },
      'block 1': { max_abs_logit: 9.31, mean_entropy_nats: 1 },
    },
    gradient_norms: { 'block 1': 0.6 },
    workers: [{ rank: 0, exchange_bytes: 20e6 }, { rank: 1 }],
  });
  const plain = stepObject({ ...record, attention: [], gradientNorms: {} });
  for (const key of ['attention', 'gradient_norms', 'max_abs_logit']) expect(plain).not.toHaveProperty(key);
  const short = stepObject({ ...record, attentionLogged: false });
  expect(short).toHaveProperty('max_abs_logit', 9.31);
  for (const key of ['attention', 'gradient_norms']) expect(short).not.toHaveProperty(key);
});

test('lines of metrics.jsonl are as their schema says, with a time on each', () => {
  const lines: object[] = [];
  const file = { append: (line: object) => void lines.push(JSON.parse(JSON.stringify(line))) };
  const sink = metricsFile(() => file as JsonlFile);
  sink.begin?.();
  sink.step?.(record);
  sink.step?.({ ...record, attention: [], gradientNorms: {}, workers: [onGpu] });
  sink.step?.({ ...record, logged: false, attentionLogged: false });
  const bins = [{ name: 't=0.0625', loss: 0.4 }];
  const epsilon = [{ name: 'log_snr=-5.25', loss: 0.2 }];
  const results = [
    { weights: 'ema', mean: 0.5, bins, epsilon },
    { weights: 'master', mean: 0.75, bins, epsilon },
  ];
  sink.validation?.({ step: 200, seconds: 15.7, results, emaDistance: 0.01 });
  sink.checkpoint?.({ step: 200, path: 'p', seconds: 1.5, stallSeconds: 0.002, bytes: 3e9 });
  const fault = { code: 'ERR_CHECKPOINT_WRITE', message: 'm', hint: null } as const;
  sink.missedCheckpoint?.({ step: 300, reason: 'skipped', fault });
  expect(lines.map((line) => metricsLine.safeParse(line).error)).toEqual(lines.map(() => undefined));
  expect(lines[2]).not.toHaveProperty('workers');
  expect(lines[3]).toEqual({
    type: 'validation',
    step: 200,
    seconds: 15.7,
    val_ema: 0.5,
    'val_ema_t_0.0625': 0.4,
    'val_ema_log_snr_-5.25': 0.2,
    val_master: 0.75,
    'val_master_t_0.0625': 0.4,
    'val_master_log_snr_-5.25': 0.2,
    ema_distance: 0.01,
    unix_seconds: expect.any(Number),
  });
  const before = { mean: 0.5, bins: { 't=0.0625': 0.4 }, epsilon_error: { 'log_snr=-5.25': 0.2 } };
  const written = { type: 'validation', ema: before, master: { ...before, mean: 0.75 } };
  for (const line of [lines[3] as Mapping, written])
    expect(validationResults(line)).toEqual([
      { weights: 'ema', mean: 0.5, epsilon: { 'log_snr=-5.25': 0.2 } },
      { weights: 'master', mean: 0.75, epsilon: { 'log_snr=-5.25': 0.2 } },
    ]);
  expect(validationResults({ type: 'validation', master: { mean: 1 } })).toEqual([
    { weights: 'master', mean: 1, epsilon: {} },
  ]);
});

test('metrics.jsonl has the keys that it had before there was a table of them', () => {
  const keys = (of: object) => Object.keys(of).sort();
  const [first] = readFileSync('test/fixtures/runs/f61e27f/run/metrics.jsonl', 'utf8').split('\n');
  const before = JSON.parse(first!) as { workers: object[] };
  const now = stepObject({ ...record, attention: [], gradientNorms: {} }) as { workers: object[] };
  expect(keys({ ...now, unix_seconds: 0 })).toEqual([...keys(before), 'epoch'].sort());
  expect(keys(now.workers[0]!)).toEqual(expect.arrayContaining(keys(before.workers[0]!)));
  const { workers } = stepObject({ ...record, workers: [onGpu] }) as { workers: object[] };
  expect(workers[0]).toMatchObject({ device: 'H100, GPU 0 of 2', device_bytes: 2 ** 30 });
});

test("a worker's message may lack a number or have one that nobody knows", () => {
  const { gather_seconds, ...others } = worker.numbers;
  expect(workerNumbers({ ...others, unknown: 1 })).toEqual({ ...worker.numbers, gather_seconds: 0 });
});

/** Values of own metrics by name and labels, those of the run left out: "validation_loss{ema,t=0.5}". */
function series(text: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [, name, labels, value] of text.matchAll(/^orchestrator_(\w+)\{(.*)\} (\S+)$/gm)) {
    const values = [...labels!.matchAll(/(\w+)="([^"]*)"/g)].filter(([, label]) => label !== 'run');
    found[values.length === 0 ? name! : `${name}{${values.map(([, , of]) => of).join(',')}}`] = Number(value);
  }
  return found;
}

describe('the metrics server', () => {
  let server: MetricsServer;
  afterEach(() => server.close?.());

  test('serves metrics in base units, health and readiness', async () => {
    server = await serveMetrics('127.0.0.1', 0, header, measure);
    const get = async (path: string) => {
      const response = await fetch(`${server.address}${path}`);
      return { status: response.status, text: await response.text() };
    };
    server.phase?.('JOINING');
    expect(await get('/readyz')).toEqual({ status: 503, text: 'JOINING\n' });
    server.phase?.('RUNNING');
    expect(await get('/readyz')).toEqual({ status: 200, text: 'RUNNING\n' });
    server.step?.(record);
    server.validation?.({
      step: 120,
      seconds: 15.5,
      results: [
        {
          weights: 'ema',
          mean: 1,
          bins: [{ name: 't=0.5', loss: 0.25 }],
          epsilon: [{ name: 'log_snr=-2.25', loss: 0.5 }],
        },
      ],
      emaDistance: 0.125,
    });
    server.generation?.(3);
    server.count?.('restarts', 2);
    const first = series((await get('/metrics')).text);
    expect(first).toMatchObject({
      loss: 0.42134,
      committed_steps: 120,
      'phase{RUNNING}': 1,
      'worker_phase_seconds_total{1,data}': expect.closeTo(0.01),
      'worker_phase_seconds_total{1,forward}': expect.closeTo(0.09),
      'worker_phase_seconds_total{1,backward}': expect.closeTo(0.2),
      'worker_phase_seconds_total{1,exchange}': 0.012,
      'worker_phase_seconds_total{1,commit}': 0.002,
      'worker_phase_seconds_total{1,update}': 0.0081,
      'worker_slow_steps_total{1}': 0,
      'validation_loss{ema,t=0.5}': 0.25,
      'validation_mean_loss{ema}': 1,
      'validation_epsilon_error{ema,-2.25}': 0.5,
      validation_seconds: 15.5,
      ema_distance_ratio: 0.125,
      'attention_max_abs_logit{00,attn,text}': 4,
      'attention_max_abs_logit{01,attn,image}': 9.31,
      'attention_mean_entropy_nats{01,attn2,image}': 3,
      'attention_logit_bound{00,attn,image}': 16,
      'block_gradient_norm{01}': 0.6,
      'block_gradient_norm{final_layer}': 0.5,
      'loss_by_time_sum_total{t=0.9375}': 4,
      'loss_by_time_samples_total{t=0.9375}': 5,
      matmul_peak_flops_per_second: 391e9,
      matmul_peak_ratio: expect.closeTo(0.5, 2),
      'step_seconds_bucket{0.3}': 0,
      'step_seconds_bucket{0.5}': 1,
      generation: 3,
      // Those before this start of the run, and two since: a resume must not look like many restarts.
      restarts_total: 6,
      validating: 1,
      // Counted from the start, so that the first one is an increase.
      replayed_steps_total: 0,
      skipped_rows_total: 0,
      non_finite_steps_total: 0,
      state_mismatches_total: 0,
      'checkpoints_missed_total{failed}': 0,
      'checkpoints_missed_total{skipped}': 0,
      checkpoint_interval_steps: 100,
      resumed_step: 50,
      disk_free_bytes: 2 ** 34,
    });
    const names = Object.keys(first).join('\n');
    expect(names).not.toMatch(/JOINING|attention_logit_bound\{01|worker_device_memory_bytes\{/);
    // What was not measured yet is absent; 0 would be taken for its value.
    expect(names).not.toMatch(/checkpoint_(step|bytes|timestamp_seconds|write_seconds)/);

    server.checkpoint?.({ step: 120, path: 'p', seconds: 1.5, stallSeconds: 0.25, bytes: 3e9 });
    // Twice the time for twice the slots is not slow.
    const numbers = { ...onGpu.numbers, accumulate_seconds: 0.6 };
    const slow = { ...onGpu, rank: 1, firstSlot: 2, endSlot: 4, numbers };
    const larger = { ...onGpu, rank: 2, firstSlot: 4, endSlot: 8, numbers };
    server.step?.({
      ...record,
      step: 121,
      attention: [],
      gradientNorms: {},
      workers: [onGpu, slow, larger],
      validating: false,
    });
    server.count?.('non_finite_steps', 1);
    const fault = { code: 'ERR_CHECKPOINT_WRITE', message: 'm', hint: null } as const;
    for (const reason of ['failed', 'skipped', 'skipped'] as const)
      server.missedCheckpoint?.({ step: 121, reason, fault });
    expect(series((await get('/metrics')).text)).toMatchObject({
      committed_steps: 121,
      validating: 0,
      samples_total: 512,
      'worker_phase_seconds_total{0,compute}': expect.closeTo(0.29),
      'worker_slow_steps_total{0}': 0,
      'worker_slow_steps_total{1}': 1,
      'worker_slow_steps_total{2}': 0,
      'worker_device_memory_bytes{0,H100, GPU 0 of 2}': 2 ** 30,
      // The last sample stays where a step was not sampled.
      'attention_max_abs_logit{01,attn,image}': 9.31,
      'block_gradient_norm{01}': 0.6,
      checkpoint_stall_seconds_total: 0.25,
      checkpoint_bytes: 3e9,
      'checkpoints_missed_total{failed}': 1,
      'checkpoints_missed_total{skipped}': 2,
      non_finite_steps_total: 1,
    });
    server.phase?.('FAILED');
    expect((await get('/healthz')).status).toBe(503);
    expect((await get('/nothing')).status).toBe(404);
    expect((await fetch(`${server.address}/metrics`, { method: 'POST' })).status).toBe(405);
  });

  test('every series has the run; labels are bounded, and none is one that Prometheus sets', async () => {
    server = await serveMetrics('127.0.0.1', 0, header, measure);
    for (const step of [120, 121]) server.step?.({ ...record, step });
    const text = await (await fetch(`${server.address}/metrics`)).text();
    const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    for (const line of lines) expect(line).toContain('run="x@20261126-094430"');
    expect(text).not.toMatch(/[{,](job|instance|step)=/);
  });

  test('64 workers and 38 blocks are less than 200 kB', async () => {
    server = await serveMetrics('127.0.0.1', 0, LARGE_HEADER, measure);
    server.step?.(largeStep());
    const text = await (await fetch(`${server.address}/metrics`)).text();
    expect(text.split('\n').length).toBeGreaterThan(1000);
    expect(text.length).toBeLessThan(SCRAPE.bytes);
  });

  test('where a port is in use, the next free one is taken', async () => {
    server = await serveMetrics('127.0.0.1', 0, header, measure);
    const port = Number(new URL(server.address).port);
    const other = await serveMetrics('127.0.0.1', port, header, measure);
    const next = Number(new URL(other.address).port);
    await other.close?.();
    expect(next).toBeGreaterThan(port);
    expect(next).toBeLessThanOrEqual(port + 100);
    // Nor is it a reason not to begin.
    await checkMetricsAddress('127.0.0.1', port);
  });

  test('a host that is not of this machine has its own hint', async () => {
    // An address of TEST-NET-1, which no machine has.
    await expect(serveMetrics('192.0.2.1', 0, header, measure)).rejects.toMatchObject({
      code: 'ERR_PORT',
      message: expect.stringContaining('EADDRNOTAVAIL'),
      hint: expect.stringContaining('telemetry.metrics_host'),
    });
  });

  test('every scrape measures again, and after a record it has its numbers', async () => {
    let diskFree: number | null = null;
    server = await serveMetrics('127.0.0.1', 0, header, async () => ({ diskFree }));
    const scrape = async () => series(await (await fetch(`${server.address}/metrics`)).text());
    expect(await scrape()).not.toHaveProperty('disk_free_bytes');
    diskFree = 5e9;
    server.generation?.(1);
    expect(await scrape()).toMatchObject({ disk_free_bytes: 5e9, generation: 1, restarts_total: 4 });
    server.count?.('restarts', 1);
    expect(await scrape()).toMatchObject({ restarts_total: 5 });
  });

  const raw = (bytes: string) => rawTo(server.address, bytes);

  test.each([
    ['//', '', '404'],
    ['//x/metrics', '', '404'],
    ['http://[', '', '404'],
    ['*', '', '404'],
    ['http://x:1/metrics?name', '', '200'],
    ['/metrics', 'host: y\r\n', '200'],
    ['/metrics?run=x%4020261126-094430', '', '200'],
    // A run that had the address before.
    ['/metrics?run=y%4020261126-094430', '', '404'],
    ['/metrics?run=', '', '404'],
    ['/metrics?run=%', '', '404'],
    ['/metrics', `x: ${'y'.repeat(9_000)}\r\n`, '431'],
    ['/metrics', 'expect: 200-maybe\r\n', '417'],
    ['/metrics', 'upgrade: h2c\r\n', '200'],
    ['/metrics', 'content-length: -1\r\n', '400'],
    ['/\0', '', '400'],
  ])('target %j with %j is answered', async (target, more, status) => {
    server = await serveMetrics('127.0.0.1', 0, header, measure);
    expect(await raw(request(target, more))).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  });

  test.each(['CONNECT x:1', 'CONNECT /metrics', 'DELETE /metrics', 'TRACE /', 'PURGE /metrics', 'PRI *'])(
    '%s is refused in words of HTTP, and the server goes on',
    async (start) => {
      server = await serveMetrics('127.0.0.1', 0, header, measure);
      const answer = await raw(`${start} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`);
      expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /);
      if (start.startsWith('CONNECT')) expect(answer).toMatch(/^HTTP\/1\.1 405 .*\r\nallow: GET, HEAD\r\n/);
      expect(await raw(request('/metrics'))).toMatch(/^HTTP\/1\.1 200 /);
    },
  );

  test('what is no request of HTTP/1 is answered, too', async () => {
    server = await serveMetrics('127.0.0.1', 0, header, measure);
    for (const bytes of [
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      '\x16\x03\x01\x02',
      'GET /metrics HTTP/1.1\r\n\r\n',
    ])
      expect(await raw(bytes)).toMatch(/^HTTP\/1\.1 400 /);
  });

  test('a request that does not end is ended', async () => {
    server = await serveMetrics('127.0.0.1', 0, header, measure);
    expect(await raw('GET /metrics HTTP/1.1\r\nhost: localhost\r\n')).toMatch(/^HTTP\/1\.1 408 /);
  });

  test('hundreds of idle connections do not keep a scrape out', async () => {
    server = await serveMetrics('127.0.0.1', 0, header, measure);
    const { port } = new URL(server.address);
    const idle = await Promise.all(
      Array.from({ length: 300 }, async () => {
        const socket = connect(Number(port), '127.0.0.1');
        socket.on('error', () => {});
        await once(socket, 'connect');
        return socket;
      }),
    );
    expect(await raw(request('/metrics'))).toMatch(/^HTTP\/1\.1 200 /);
    await expect
      .poll(() => idle.filter(({ destroyed }) => destroyed).length, { timeout: 15_000 })
      .toBeGreaterThanOrEqual(300 - 64);
    for (const socket of idle) socket.destroy();
  });
});
