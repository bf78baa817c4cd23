/** Opens all sinks of a run's records. */
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../config/schema.js';
import { plainConsole, wantsColour } from '../telemetry/console.js';
import { logFile } from '../telemetry/log.js';
import { metricsFile } from '../telemetry/metrics-file.js';
import { serveMetrics } from '../telemetry/prometheus.js';
import { prometheusTargets } from '../telemetry/prometheus-targets.js';
import { type Recorder, type RunHeader, recorderOf } from '../telemetry/record.js';
import { liveTable } from '../telemetry/table.js';
import type { RunDir } from './run-dir.js';

/** @param targets file for Prometheus' discovery, with the address of the metrics; null: none. */
export async function openRecorder(
  config: Config,
  workers: number,
  dir: RunDir,
  targets: string | null,
): Promise<Recorder> {
  const { metrics_port: port, metrics_host: host } = config.telemetry;
  const header: RunHeader = {
    name: config.name,
    run: `${config.name}@${compactTime(dir.started)}`,
    steps: config.schedule.steps,
    workers,
    checkpointEvery: config.checkpoint.every,
  };
  // The log comes first: if it cannot be opened, no server may listen yet and keep the process from ending.
  const log = logFile(join(dir.path, 'run.log'));
  const measure = async () => {
    const { bavail, bsize } = await statfs(dir.path);
    return { diskFree: bavail * bsize };
  };
  const prometheus = port === null ? null : await serveMetrics(host, port, header, measure);
  const { stdout } = process;
  const write = (text: string) => void stdout.write(text);
  const recorder = recorderOf([
    metricsFile(dir.metrics),
    log,
    ...(prometheus === null ? [] : [prometheus]),
    ...(prometheus === null || targets === null
      ? []
      : [await prometheusTargets(targets, prometheus.address)]),
    stdout.isTTY && process.env.TERM !== 'dumb'
      ? liveTable({
          header,
          colour: wantsColour(stdout, process.env),
          columns: () => stdout.columns ?? 80,
          write,
        })
      : plainConsole(write),
  ]);
  if (prometheus !== null)
    recorder.note('info', `metrics at ${prometheus.address}/metrics${elsewhere(port, prometheus.address)}`);
  return recorder;
}

/** What to say where the wanted port was taken. */
function elsewhere(port: number | null, address: string): string {
  return port === 0 || address.endsWith(`:${port}`) ? '' : ` (telemetry.metrics_port ${port} is in use)`;
}

/** "20261126-094430", in UTC. */
function compactTime(seconds: number): string {
  return new Date(1000 * seconds).toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-');
}
