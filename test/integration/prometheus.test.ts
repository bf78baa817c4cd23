/**
 * A real Prometheus scrapes real runs, one on two nodes and one on an emulated GPU, which share a file of
 * targets: every query of the dashboards and every recording rule has an answer of numbers, and no alert fires
 * before a run is killed.
 */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, test } from 'vitest';
import { BOARDS } from '../../cluster/grafana/boards/all.js';
import { annotations } from '../../cluster/grafana/queries/annotations.js';
import { temporaryFolder } from '../support/folders.js';
import { ends, Launched } from '../support/launched.js';
import { because, needs } from '../support/needs.js';
import { Prometheus, type Series } from '../support/prometheus.js';
import { sent } from '../support/promql.js';

const folder = temporaryFolder();
const missing = needs('prometheus');
let prometheus: Prometheus | null = null;
const started: Launched[] = [];
afterAll(async () => {
  await prometheus?.stop();
  // Where the test failed, they still run.
  for (const { process: launched } of started) launched.kill('SIGTERM');
  await Promise.all(started.map(({ outcome }) => outcome));
});

/** Enough steps that the run goes on until it is stopped. */
const LONG = ['schedule.steps=1000000', 'telemetry.metrics_port=0', 'telemetry.attention_every=2'].flatMap(
  (set) => ['--set', set],
);
const GPU = ['device=cuda', 'model.hidden=64', 'model.depth=1', 'batch.global=1', 'batch.micro=1'].flatMap(
  (set) => ['--set', set],
);

const TARGETS = join(folder, 'targets', 'runs.json');
const targets = () =>
  (JSON.parse(readFileSync(TARGETS, 'utf8')) as { targets: string[] }[]).flatMap((group) => group.targets);

function start(name: string, nodes: number, ...more: string[]): Launched {
  const targets = ['--prometheus-targets', TARGETS];
  // Who is killed stays so.
  const run = new Launched(join(folder, name), nodes, ...targets, '--max-restarts', '0', ...LONG, ...more);
  started.push(run);
  return run;
}

test.skipIf(missing !== null)(
  because('every query of the dashboards and every recording rule has an answer', missing),
  async () => {
    const server = await Prometheus.start(folder);
    prometheus = server;
    const run = start('nodes', 2, '--set', 'exchange=grpc');
    await run.says('metrics at ');
    const [, port] = /metrics at http:\/\/127\.0\.0\.1:(\d+)/.exec(run.output)!;
    process.env.ORCHESTRATOR_CUDA = resolve('build/Release/liborchestrator_cuda_emulated.so');
    // Its port is taken by the other run.
    const onGpu = start('gpu', 1, ...GPU, '--set', `telemetry.metrics_port=${port}`);
    delete process.env.ORCHESTRATOR_CUDA;

    const queries = BOARDS.flatMap(({ rows }) =>
      rows.flatMap(({ panels }) =>
        panels.flatMap(({ title, queries: of }) =>
          of.map(({ expr }) => ({ title, expr: sent(expr, '15s') })),
        ),
      ),
    );
    // No alert fires, so that their marks have no answer.
    for (const { name, expr } of annotations) {
      if (name !== 'Alerts') queries.push({ title: name, expr: sent(expr, '15s') });
    }
    const rules = await server.rules();
    for (const { name, type } of rules) {
      if (type === 'recording') queries.push({ title: name, expr: name });
    }
    // Far more than the minute that an idle machine needs; then the failure names what has no answer.
    const deadline = Date.now() + 150_000;
    let open = queries;
    while (open.length > 0) {
      const unanswered: typeof open = [];
      for (const query of open) {
        const series = await server.query(query.expr);
        const numbers = series.map(({ value }) => Number(value[1]));
        if (numbers.length === 0 || !numbers.every(Number.isFinite)) unanswered.push(query);
      }
      for (const { process: launched, output } of [run, onGpu]) {
        expect(launched.exitCode, `${JSON.stringify(unanswered, null, 1)}\n${output}`).toBeNull();
      }
      open = unanswered;
      expect(Date.now() < deadline ? [] : open).toEqual([]);
      if (open.length > 0) await sleep(500);
    }

    // Rules work, and nothing is wrong with a run that only just began.
    for (const { name, health, lastError } of await server.rules()) {
      expect([name, health, lastError]).toEqual([name, 'ok', undefined]);
    }
    expect(await server.query('ALERTS{alertstate="firing"}')).toEqual([]);
    // The two workers of the first run, with the labels that dashboards group by.
    const phases = await server.query('orchestrator_worker_phase_seconds_total{phase="exchange"}');
    const ranks = phases.filter(({ metric }) => metric.run!.startsWith('integration@'));
    expect(new Set(ranks.map(({ metric }) => metric.rank))).toEqual(new Set(['0', '1']));

    expect(onGpu.output).toContain(`/metrics (telemetry.metrics_port ${port} is in use)`);
    expect(targets()).toHaveLength(2);

    // A run that was killed is reported as down, by its name.
    const down = rules.find(({ name }) => name === 'RunDown')!.query;
    await expect.poll(() => server.query(down)).toEqual([]);
    const [{ metric }] = (await server.query(`orchestrator_run_info{instance="127.0.0.1:${port}"}`)) as [
      Series,
    ];
    process.kill(run.coordinator(), 'SIGKILL');
    await run.outcome;
    const gone = async () => (await server.query(down)).map((of) => [of.metric.run, of.metric.instance]);
    // Another one may be too slow for a scrape for a moment.
    const slow = { timeout: 60_000 };
    await expect.poll(gone, slow).toEqual([[metric.run, `127.0.0.1:${port}`]]);

    // It still is when another run has its address.
    const next = start('next', 1, '--set', `telemetry.metrics_port=${port}`);
    await next.says(`metrics at http://127.0.0.1:${port}/metrics`);
    while ((await server.query(`up{instance="127.0.0.1:${port}"} == 1`)).length === 0) await sleep(200);
    await expect.poll(gone, slow).toEqual([[metric.run, `127.0.0.1:${port}`]]);

    // One that ended as it should is not.
    for (const { process: launched } of [onGpu, next]) launched.kill('SIGINT');
    await ends(onGpu.outcome, 130);
    await ends(next.outcome, 130);
    expect(targets()).toEqual([`127.0.0.1:${port}`]);
  },
);
