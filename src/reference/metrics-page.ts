/** Generates docs/reference/metrics.md. */
import { METRICS, PREFIX } from '../telemetry/metrics.js';
import { code, page, table } from './markdown.js';

const INTRODUCTION = `The coordinator serves \`/metrics\` (Prometheus), \`/healthz\` and \`/readyz\` on \`telemetry.metrics_host\` and \`telemetry.metrics_port\`; the address is
printed at the start. Units are base units: seconds, bytes. In addition, prom-client's default metrics of the coordinator's process are served,
under \`orchestrator_coordinator_\`.`;

export function metricsPage(): string {
  const rows = Object.values(METRICS)
    .flat()
    .map(({ name, type, labels, help }) => [code(PREFIX + name), type, labels.map(code).join(', '), help]);
  return page(
    'Metrics',
    'src/telemetry/metrics.ts',
    INTRODUCTION,
    table(['name', 'type', 'labels', 'meaning'], rows),
  );
}
