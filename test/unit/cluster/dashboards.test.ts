import { existsSync, readFileSync } from 'node:fs';
import { join, normalize } from 'node:path';
import * as units from '@grafana/grafana-foundation-sdk/units';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { UNITS } from '../../../cluster/grafana/board.js';
import { BOARDS } from '../../../cluster/grafana/boards/all.js';
import { annotations } from '../../../cluster/grafana/queries/annotations.js';
import { attention } from '../../../cluster/grafana/queries/attention.js';
import { cluster } from '../../../cluster/grafana/queries/cluster.js';
import { storage } from '../../../cluster/grafana/queries/storage.js';
import { training } from '../../../cluster/grafana/queries/training.js';
import { METRICS } from '../../../src/telemetry/metrics.js';
import { metricsIn, SERIES, sent, syntaxProblem } from '../../support/promql.js';

interface Grid {
  x: number;
  y: number;
  w: number;
  h: number;
}

interface PanelJson {
  id: number;
  type: string;
  title: string;
  description?: string;
  gridPos: Grid;
  repeat?: string;
  datasource?: { uid: string };
  targets?: { refId: string; expr: string; legendFormat: string; datasource: { uid: string } }[];
  fieldConfig?: { defaults: { unit: string } };
}

interface DashboardJson {
  schemaVersion: number;
  uid: string;
  title: string;
  panels: PanelJson[];
  templating: { list: { name: string; type: string; multi: boolean; datasource?: { uid: string } }[] };
  annotations: { list: { name: string; datasource: { uid: string } }[] };
}

const read = (path: string) => readFileSync(join('cluster', path), 'utf8');
const files = ['training', 'attention', 'cluster', 'storage'];
const dashboards = files.map((file) => JSON.parse(read(`grafana/dashboards/${file}.json`)) as DashboardJson);
const queries = { ...training, ...attention, ...cluster, ...storage };

describe.each(dashboards.map((dashboard) => [dashboard.title, dashboard] as const))('%s', (_, dashboard) => {
  test('every panel has an id of its own, and says what it shows and what to do', () => {
    const ids = dashboard.panels.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { type, title, description, targets } of dashboard.panels) {
      if (type === 'row') continue;
      expect(description?.length, title).toBeGreaterThan(20);
      expect(targets?.length, title).toBeGreaterThan(0);
    }
  });

  test('panels lie on the grid and do not overlap', () => {
    const taken = new Map<string, string>();
    for (const { title, gridPos } of dashboard.panels) {
      const { x, y, w, h } = gridPos;
      expect(x + w, title).toBeLessThanOrEqual(24);
      for (let i = x; i < x + w; i++) {
        for (let j = y; j < y + h; j++) {
          expect(taken.get(`${i} ${j}`), `${title} lies on another panel`).toBeUndefined();
          taken.set(`${i} ${j}`, title);
        }
      }
    }
  });

  test('the reader chooses the data source and several runs', () => {
    const { list } = dashboard.templating;
    expect(list.map(({ name, type }) => [name, type])).toEqual([
      ['datasource', 'datasource'],
      ['run', 'query'],
    ]);
    expect(list[1]).toMatchObject({ multi: true, includeAll: true, allValue: '.+' });
    const sources = [
      list[1]!.datasource,
      ...dashboard.annotations.list.map(({ datasource }) => datasource),
      ...dashboard.panels.flatMap(({ type, datasource, targets = [] }) =>
        type === 'row' ? [] : [datasource, ...targets.map((target) => target.datasource)],
      ),
    ];
    for (const source of sources) expect(source).toMatchObject({ uid: '$datasource' });
  });

  test('every query is one of the files of queries, and every unit one that our drawings know', () => {
    const known = new Set(Object.values(queries).map(({ expr }) => expr as string));
    for (const { title, targets = [], fieldConfig } of dashboard.panels) {
      for (const { expr } of targets) expect(known.has(expr), `${title}: ${expr}`).toBe(true);
      if (fieldConfig !== undefined && targets.length > 0) expect(UNITS).toContain(fieldConfig.defaults.unit);
    }
  });
});

test('every Grafana from 10.0 on knows the version of the schema', () => {
  for (const { schemaVersion } of dashboards) expect(schemaVersion).toBeLessThanOrEqual(38);
});

test('what is repeated for each run has the whole width, which Grafana divides', () => {
  const repeated = dashboards.flatMap(({ panels }) => panels.filter(({ repeat }) => repeat !== undefined));
  expect(repeated.map(({ title, gridPos: { x, w } }) => [title, x, w])).toEqual([
    ['Step time by phase: $run', 0, 24],
  ]);
});

test('units are those of Grafana', () => {
  const known = new Set<unknown>(Object.values(units));
  for (const unit of UNITS) {
    expect(known.has(unit) || unit.startsWith('suffix:'), unit).toBe(true);
  }
});

test('there are four dashboards, with addresses of their own', () => {
  expect(dashboards.map(({ uid }) => uid)).toEqual(BOARDS.map(({ uid }) => uid));
  expect(new Set(dashboards.map(({ uid }) => uid)).size).toBe(4);
});

test('every query is used, can be parsed, asks for the chosen runs and for metrics that are served', () => {
  const used = new Set(
    BOARDS.flatMap(({ rows }) => rows.flatMap(({ panels }) => panels.flatMap((panel) => panel.queries))),
  );
  for (const [name, query] of Object.entries(queries)) {
    expect(used.has(query), `${name} is used`).toBe(true);
  }
  for (const { expr } of [...Object.values(queries), ...annotations]) {
    expect(syntaxProblem(sent(expr, '1m')), expr).toBeNull();
    const metrics = metricsIn(sent(expr, '1m'));
    expect(metrics.length, expr).toBeGreaterThan(0);
    for (const metric of metrics) {
      expect(SERIES.has(metric) || /^(ALERTS$|orchestrator_coordinator_)/.test(metric), metric).toBe(true);
    }
    expect(expr.split('run=~"$run"').length - 1, expr).toBe(metrics.length);
  }
  expect(syntaxProblem('sum by (run (x)')).not.toBeNull();
});

test('every metric of a run is shown', () => {
  const shown = new Set(
    [...Object.values(queries), ...annotations].flatMap(({ expr }) => metricsIn(sent(expr, '1m'))),
  );
  const names = Object.values(METRICS)
    .flat()
    .map(({ name }) => `orchestrator_${name}`)
    .filter((name) => ![...shown].some((other) => other === name || other.startsWith(`${name}_`)));
  // Metrics of the run selector, and of the alert StepStalled.
  expect(names).toEqual(['orchestrator_run_info', 'orchestrator_validating']);
});

describe('what deploys them', () => {
  test('the ConfigMap holds the same dashboards, under the label that the sidecar looks for', () => {
    const map = parse(read('kubernetes/dashboards.yaml')) as {
      kind: string;
      metadata: { labels: Record<string, string> };
      data: Record<string, string>;
    };
    expect(map.kind).toBe('ConfigMap');
    expect(map.metadata.labels).toEqual({ grafana_dashboard: '1' });
    expect(Object.values(map.data).map((text) => JSON.parse(text))).toEqual(dashboards);
    // kubectl apply keeps the whole object in an annotation of at most 256 KiB.
    expect(read('kubernetes/dashboards.yaml').length).toBeLessThan(200_000);
  });

  test("the operator's rules are Prometheus' own, and its monitor sets the job that an alert asks for", () => {
    const { kind, spec } = parse(read('kubernetes/rules.yaml')) as { kind: string; spec: object };
    expect(kind).toBe('PrometheusRule');
    expect(spec).toEqual(parse(read('prometheus/rules.yaml')));
    const monitor = parse(read('kubernetes/pod-monitor.yaml')) as {
      kind: string;
      spec: { podMetricsEndpoints: { path: string; relabelings: object[] }[] };
    };
    expect(monitor.kind).toBe('PodMonitor');
    expect(monitor.spec.podMetricsEndpoints).toMatchObject([
      { path: '/metrics', relabelings: [{ targetLabel: 'job', replacement: 'orchestrator' }] },
    ]);
  });

  test('the compose file mounts folders that exist, where Grafana and Prometheus look for them', () => {
    const { services } = parse(read('compose.yaml')) as {
      services: Record<
        string,
        { image: string; command?: string[]; environment?: Record<string, string>; volumes: string[] }
      >;
    };
    const mounts = new Map<string, string>();
    for (const { image, volumes } of Object.values(services)) {
      expect(image).toMatch(/:v?\d+\.\d+\.\d+$/);
      for (const volume of volumes) {
        const [from, to, mode] = volume.split(':');
        if (!from!.startsWith('./')) continue;
        expect(mode, volume).toBe('ro');
        expect(existsSync(join('cluster', from!)), from).toBe(true);
        mounts.set(to!, join('cluster', from!));
      }
    }
    const provider = parse(read('grafana/provisioning/dashboards/orchestrator.yaml')) as {
      providers: { options: { path: string } }[];
    };
    const provisioning = services.grafana!.environment!.GF_PATHS_PROVISIONING!;
    const { path } = provider.providers[0]!.options;
    const shown = (folder: string) => normalize(path.replace('$GF_PATHS_PROVISIONING', folder));
    expect(mounts.get(shown(provisioning))).toBe('cluster/grafana/dashboards');
    // Without containers, from the folder that the guide names.
    expect(shown('cluster/grafana/provisioning')).toBe('cluster/grafana/dashboards');
    const [, config] = services.prometheus!.command!.join(' ').match(/--config\.file=(\S+)/)!;
    const [folder] = [...mounts.keys()].filter((path) => config!.startsWith(path));
    expect(existsSync(config!.replace(folder!, mounts.get(folder!)!))).toBe(true);
    expect(mounts.get(provisioning)).toBe('cluster/grafana/provisioning');
  });
});
