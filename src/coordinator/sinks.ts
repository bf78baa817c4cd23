/** Opens all sinks of a run's records. */
import { join } from 'node:path';
import type { Config } from '../config/schema.js';
import { plainConsole, wantsColour } from '../telemetry/console.js';
import { logFile } from '../telemetry/log.js';
import { metricsFile } from '../telemetry/metrics-file.js';
import { serveMetrics } from '../telemetry/prometheus.js';
import { type Recorder, type RunHeader, recorderOf } from '../telemetry/record.js';
import { liveTable } from '../telemetry/table.js';
import { LOG, type RunDir } from './run-dir.js';

export async function openRecorder(config: Config, workers: number, dir: RunDir): Promise<Recorder> {
  const { metrics_port: port, metrics_host: host } = config.telemetry;
  const header: RunHeader = { name: config.name, steps: config.schedule.steps, workers };
  const prometheus = port === null ? null : await serveMetrics(host, port, header);
  const { stdout } = process;
  const write = (text: string) => void stdout.write(text);
  const recorder = recorderOf([
    metricsFile(() => dir.records.metrics),
    logFile(join(dir.path, LOG)),
    ...(prometheus === null ? [] : [prometheus]),
    stdout.isTTY && process.env.TERM !== 'dumb'
      ? liveTable({
          header,
          colour: wantsColour(stdout, process.env),
          columns: () => stdout.columns ?? 80,
          write,
        })
      : plainConsole(write),
  ]);
  if (prometheus !== null) recorder.note('info', `metrics at ${prometheus.address}/metrics`);
  return recorder;
}
