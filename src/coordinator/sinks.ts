/** Opens all sinks of a run's records. */
import { join } from 'node:path';
import { stringify } from 'yaml';
import { validatedWeights } from '../config/derived.js';
import type { Config } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import { freeBytes } from '../files/io.js';
import type { ResolvedRun } from '../run-folder/resolve-run.js';
import { LOG, type RunDir } from '../run-folder/run-dir.js';
import { plainConsole } from '../telemetry/console.js';
import { logFile } from '../telemetry/log.js';
import { isLoopback, readMetricsToken } from '../telemetry/metrics-access.js';
import { metricsFile } from '../telemetry/metrics-file.js';
import { standardOutput } from '../telemetry/output.js';
import { prometheusTargets } from '../telemetry/prometheus-targets.js';
import { type Recorder, type RunHeader, recorderOf, type Sink, type TimeOf } from '../telemetry/record.js';
import { relay, type Send } from '../telemetry/relay.js';
import { comparedLoss, RunProgress } from '../telemetry/run-progress.js';
import { serveStatus } from './status-socket.js';

/**
 * @param targets file for Prometheus' discovery, with the address of the metrics; null: none.
 * @param coordinatorRestarts how often a coordinator of the run has taken the place of another.
 * @param launcher gives the launcher the records, which shows them; null: there is none, and they are printed.
 */
export async function openRecorder(
  { config, step, own, checkpoint }: Pick<ResolvedRun, 'config' | 'step' | 'own' | 'checkpoint'>,
  workers: number,
  dir: RunDir,
  targets: string | null,
  launcher: Send | null,
  coordinatorRestarts: number,
): Promise<{ recorder: Recorder; progress: RunProgress }> {
  const header: RunHeader = {
    name: config.name,
    run: `${config.name}@${compactTime(dir.started)}`,
    steps: config.schedule.steps,
    workers,
    checkpointEvery: config.checkpoint.every,
    resumedStep: step,
    runDir: dir.path,
    checkpoint: own && checkpoint !== null ? { step, path: checkpoint.path } : null,
    validatedWeights: comparedLoss(validatedWeights(config).map((weights) => ({ weights })))?.weights ?? null,
    // Without a journal no generation was formed; else the first one was no restart.
    restarts: dir.restarts,
    coordinatorRestarts,
  };
  const progress = new RunProgress(header);
  const metrics = await serve(config.telemetry, header, dir.path, targets);
  const status = await serveStatus(progress, dir.path);
  // In run.log and where it is shown, an event has the same time.
  let at = new Date();
  const time = () => at;
  const sinks = [
    progress,
    metricsFile(() => dir.records.metrics),
    logFile(join(dir.path, LOG), time),
    ...(config.telemetry.tensorboard ? [await tensorboard(dir, config, time)] : []),
    ...metrics.sinks,
    ...(typeof status === 'string' ? [] : [status]),
    launcher === null ? printed() : relay(header, launcher, time),
  ];
  const recorder = recorderOf(sinks, () => {
    at = new Date();
  });
  if (typeof status === 'string') recorder.note('info', status);
  for (const [level, message] of metrics.notes) recorder.note(level, message);
  return { recorder, progress };
}

/** Its format is loaded only where it is wanted. */
async function tensorboard({ path }: RunDir, config: Config, time: TimeOf): Promise<Sink> {
  const { tensorboardFile } = await import('../telemetry/tensorboard.js');
  return tensorboardFile(path, stringify(config), time);
}

/** Plain lines on the standard output of a coordinator without a launcher. */
function printed(): Sink {
  const output = standardOutput(process.stdout);
  return { ...plainConsole((text) => output.write(text)), close: () => output.close() };
}

interface Served {
  sinks: Sink[];
  notes: (readonly ['info' | 'warn', string])[];
}

/** The server of the metrics and the file that names its address, as far as they are wanted. */
async function serve(
  { metrics_port: port, metrics_host: host, metrics_token_file: tokenFile }: Config['telemetry'],
  header: RunHeader,
  runDir: string,
  targets: string | null,
): Promise<Served> {
  if (port === null) {
    const why = `${targets} is not written, because telemetry.metrics_port is null`;
    return { sinks: [], notes: targets === null ? [] : [['warn', why]] };
  }
  // A disk that does not answer must not look like a run that is gone.
  const measure = async () => ({ diskFree: await freeBytes(runDir).catch(() => null) });
  // Its libraries are loaded only where it is wanted.
  const { serveMetrics } = await import('../telemetry/prometheus.js');
  const token = tokenFile === null ? null : readMetricsToken(tokenFile);
  const server = await serveMetrics(host, port, header, measure, token);
  const notes: Served['notes'] = [
    ['info', `metrics at ${server.address}/metrics${elsewhere(port, server.address)}`],
  ];
  if (token === null && !isLoopback(host)) {
    const way = 'telemetry.metrics_token_file asks for a token';
    notes.push(['warn', `everybody who reaches ${server.address} can read the metrics of the run; ${way}`]);
  }
  if (targets === null) return { sinks: [server], notes };
  try {
    return { sinks: [server, await prometheusTargets(targets, server.address, header.run)], notes };
  } catch (error) {
    if (error instanceof OrchestratorError && error.code === 'ERR_RUN_LOCKED') {
      // Another run's fault is no reason for this one not to start.
      notes.push(['warn', `Prometheus does not learn of this run: ${error.message}. ${error.hint}`]);
      return { sinks: [server], notes };
    }
    // The server would keep the process from ending.
    await server.close?.();
    throw error;
  }
}

/** What to say where the wanted port was taken. */
function elsewhere(port: number | null, address: string): string {
  return port === 0 || address.endsWith(`:${port}`) ? '' : ` (telemetry.metrics_port ${port} is in use)`;
}

/** "20261126-094430.512", in UTC; in milliseconds, because a sweep starts several runs of a name in a second. */
function compactTime(seconds: number): string {
  return new Date(1000 * seconds).toISOString().slice(0, 23).replaceAll(/[-:]/g, '').replace('T', '-');
}
