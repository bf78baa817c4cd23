import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { because, needs } from '../../support/needs.js';
import { metricsIn, SERIES, syntaxProblem } from '../../support/promql.js';

const FOLDER = 'cluster/prometheus';

interface Rule {
  alert?: string;
  record?: string;
  expr: string;
  labels?: { severity: string };
  annotations?: { summary: string; action: string };
}

interface AlertCase {
  alert_rule_test: { alertname: string; exp_alerts: unknown[] }[];
}

const read = (file: string) => parse(readFileSync(join(FOLDER, file), 'utf8'));
const rules = (read('rules.yaml') as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules);
const alerts = rules.flatMap(({ alert }) => alert ?? []);

test('rules can be parsed, and ask for metrics that are served or recorded', () => {
  const recorded = rules.flatMap(({ record }) => record ?? []);
  for (const { expr } of rules) {
    expect(syntaxProblem(expr), expr).toBeNull();
    for (const name of metricsIn(expr)) {
      expect(SERIES.has(name) || recorded.includes(name) || name === 'up', name).toBe(true);
    }
  }
});

test('every alert has a severity, says what happened and what to do, and is in the guide', () => {
  const guide = readFileSync('docs/guide/monitoring.md', 'utf8');
  for (const { alert, labels, annotations } of rules) {
    if (alert === undefined) continue;
    expect(['warning', 'critical'], alert).toContain(labels?.severity);
    expect(annotations?.summary.length, alert).toBeGreaterThan(20);
    expect(annotations?.action.length, alert).toBeGreaterThan(20);
    expect(guide, alert).toContain(`\`${alert}\``);
  }
});

test('every alert is tested firing and not firing', () => {
  const { tests } = read('rules.test.yaml') as { tests: AlertCase[] };
  const cases = tests.flatMap((of) => of.alert_rule_test);
  for (const alert of alerts) {
    const fires = cases
      .filter(({ alertname }) => alertname === alert)
      .map(({ exp_alerts }) => exp_alerts.length > 0);
    expect(new Set(fires), alert).toEqual(new Set([true, false]));
  }
});

const missing = needs('promtool');
test.skipIf(missing !== null)(
  because('promtool accepts the files, and the alerts fire as they should', missing),
  () => {
    for (const command of [
      'check rules rules.yaml',
      'check config prometheus.yaml',
      'test rules rules.test.yaml',
    ]) {
      const { status, stdout, stderr } = spawnSync('promtool', command.split(' '), {
        cwd: FOLDER,
        encoding: 'utf8',
      });
      expect(status, `promtool ${command}\n${stdout}${stderr}`).toBe(0);
    }
  },
  // promtool makes a database for each of the cases.
  120_000,
);

test('the files that the configuration names are there', () => {
  const { rule_files } = read('prometheus.yaml') as { rule_files: string[] };
  for (const file of rule_files) expect(existsSync(join(FOLDER, file)), file).toBe(true);
});
