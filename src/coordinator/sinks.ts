/** Opens all sinks of a run's records. */
import { join } from 'node:path';
import type { Config } from '../config/schema.js';
import { plainConsole, wantsColour } from '../telemetry/console.js';
import { logFile } from '../telemetry/log.js';
import { metricsFile } from '../telemetry/metrics-file.js';
import { serveMetrics } from '../telemetry/prometheus.js';
import { Recorder, type RunHeader, type Sink } from '../telemetry/record.js';
import { LiveTable } from '../telemetry/table.js';
import type { RunDir } from './run-dir.js';

export async function openRecorder(
  header: RunHeader,
  { metrics_port: port, metrics_host: host }: Config['telemetry'],
  dir: RunDir,
): Promise<Recorder> {
  const sinks: Sink[] = [metricsFile(dir.metrics), logFile(join(dir.path, 'run.log'))];
  const prometheus = port === null ? null : await serveMetrics(host, port, header);
  if (prometheus !== null) sinks.push(prometheus);
  const { stdout } = process;
  const write = (text: string) => void stdout.write(text);
  sinks.push(
    stdout.isTTY && process.env.TERM !== 'dumb'
      ? new LiveTable({
          header,
          colour: wantsColour(stdout, process.env),
          columns: () => stdout.columns ?? 80,
          write,
        })
      : plainConsole({ write }),
  );
  const recorder = new Recorder(sinks);
  if (prometheus !== null) recorder.note('info', `metrics at ${prometheus.address}/metrics`);
  return recorder;
}
