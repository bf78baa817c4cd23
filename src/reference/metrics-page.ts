/** Generates docs/reference/metrics.md from the definitions of the Prometheus metrics. */
import { Registry } from 'prom-client';
import { instruments } from '../telemetry/prometheus.js';
import { code, page, table } from './markdown.js';

const INTRODUCTION = `The coordinator serves \`/metrics\` (Prometheus), \`/healthz\` and \`/readyz\` on \`telemetry.metrics_host\` and \`telemetry.metrics_port\`; the address is
printed at the start. Units are base units: seconds, bytes. In addition, prom-client's default metrics of the coordinator's process are served,
under \`orchestrator_coordinator_\`.`;

export function metricsPage(): string {
  const registry = new Registry();
  instruments(registry, { name: '', runDir: '', steps: 0, workers: 0, slots: 0, samplesPerStep: 0 });
  const rows = registry.getMetricsAsArray().map((metric) => {
    // prom-client does not declare the labels.
    const { labelNames } = metric as unknown as { labelNames: string[] };
    return [code(metric.name), String(metric.type), labelNames.map(code).join(', '), metric.help];
  });
  const metrics = table(['name', 'type', 'labels', 'meaning'], rows);
  return page('Metrics', 'src/telemetry/prometheus.ts', INTRODUCTION, metrics);
}
