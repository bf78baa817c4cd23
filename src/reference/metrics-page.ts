/** Generates docs/reference/metrics.md from the definitions of the Prometheus metrics. */
import { Registry } from 'prom-client';
import { instruments } from '../telemetry/prometheus.js';
import { code, page, table } from './markdown.js';

const INTRODUCTION = `The coordinator serves \`/metrics\` (Prometheus), \`/healthz\` and \`/readyz\` on \`telemetry.metrics_host\` and \`telemetry.metrics_port\`; the address is
printed at the start. Units are base units: seconds, bytes. In addition, prom-client's default metrics of the coordinator's process are served,
under \`orchestrator_coordinator_\`.`;

export async function metricsPage(): Promise<string> {
  const registry = new Registry();
  instruments(registry, { name: '', runDir: '', steps: 0, workers: 0, slots: 0, samplesPerStep: 0 });
  const labels = new Map(
    registry
      .getMetricsAsArray()
      .map((metric) => [metric.name, (metric as unknown as { labelNames: string[] }).labelNames]),
  );
  const rows = (await registry.getMetricsAsJSON()).map(({ name, type, help }) => [
    code(name),
    String(type),
    (labels.get(name) ?? []).map(code).join(', '),
    help,
  ]);
  return page(
    'Metrics',
    'src/telemetry/prometheus.ts',
    INTRODUCTION,
    table(['name', 'type', 'labels', 'meaning'], rows),
  );
}
