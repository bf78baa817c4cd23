/** The coordinator alone: a run with many workers that have no engines, of which some are lost and others join. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { loadConfigWithSources } from '../src/config/load.js';
import { Run } from '../src/coordinator/run.js';
import { openRecorder } from '../src/coordinator/sinks.js';
import { keptRecords } from '../src/run-folder/kept-records.js';
import { describeData, resolveRun } from '../src/run-folder/resolve-run.js';
import { RunDir } from '../src/run-folder/run-dir.js';
import { Secrets } from '../src/run-folder/secrets.js';
import { SESSIONS } from './goals.js';
import { goal, median, milliseconds, percent, print, table } from './report.js';

const SCRIPT = fileURLToPath(new URL('./sessions-process.js', import.meta.url));
const CONFIG = 'test/integration/training.yaml';
const WORKERS = 1_000;
const PART_SECONDS = 20;

/** What the process of the workers is told. */
export interface SessionsOrders {
  address: string;
  workers: number;
}

/** What it tells, in seconds: since it was last told to. */
export interface SessionsTimes {
  /** Messages that the workers have sent. */
  messages: number;
  /** Time of each step from the last worker's Prepared to the last worker's Commit. */
  commits: number[];
  /** Time of each loss and each join from the moment it happens to the last worker's Start. */
  regroupings: number[];
}

/** The process of the workers loses one every so many milliseconds, and another takes its place; null: none. */
export interface SessionsChange {
  loseEveryMs: number | null;
}

/** Heartbeats come every 250 ms from each worker, as in a run; a step is computed in every second. */
export async function benchSessions(): Promise<void> {
  print(`\n## The coordinator alone: ${WORKERS} sessions over gRPC on loopback, one step a second\n`);
  const runDir = mkdtempSync(join(tmpdir(), 'orchestrator-sessions-'));
  const workers = fork(SCRIPT);
  try {
    const sets = [
      `batch.global=${WORKERS}`,
      'batch.micro=1',
      'schedule.steps=1000000',
      'checkpoint.every=0',
      'validation.every=0',
      'telemetry.log_every=1000',
    ];
    const loaded = loadConfigWithSources(CONFIG, sets);
    const dir = await RunDir.open(runDir);
    // Nobody reads a row, so there may be as many as a step needs.
    const data = { ...describeData(loaded), rows: 4 * WORKERS };
    const resolved = await resolveRun(loaded, data, data, { runDir, resume: 'never', thorough: true });
    const { recorder, progress } = await openRecorder(resolved, WORKERS, dir, null, null, 0);
    let address = '';
    const options = {
      loaded,
      workers: WORKERS,
      minWorkers: 1,
      runDir,
      resume: 'never',
      patienceSeconds: 600,
      again: false,
      network: null,
      prometheusTargets: null,
      launcher: null,
      onListening: (found: string) => {
        address = found;
      },
    };
    const secrets = new Secrets(dir.path);
    const kept = keptRecords(dir.path, 0);
    const known = {
      ...resolved,
      rows: data.rows,
      data,
      orphans: [],
      othersHold: false,
      hasDied: false,
      kept,
    };
    const run = new Run(options, known, null, dir, secrets, recorder, progress);
    await run.listen();
    const joining = await measure(async () => {
      workers.send({ address, workers: WORKERS } satisfies SessionsOrders);
      await once(workers, 'message');
    });
    const steady = await part(null);
    const changing = await part(2_000);
    const row = (name: string, { wall, processor, delay, times }: Measured & { times?: SessionsTimes }) => [
      name,
      percent(processor / wall),
      times === undefined ? '' : `${((1e6 * processor) / times.messages).toFixed(1)} us`,
      milliseconds(delay.p99),
      milliseconds(delay.most),
      times === undefined ? '' : milliseconds(median(times.commits)),
      times === undefined || times.regroupings.length === 0 ? '' : milliseconds(median(times.regroupings)),
    ];
    print(
      table(
        [
          '',
          'of a core',
          'a message',
          'event loop, p99',
          'longest',
          'Prepared to Commit',
          'loss or join to Start',
        ],
        [
          row(`joining, ${joining.wall.toFixed(1)} s`, joining),
          row('nobody comes or goes', steady),
          row('one is lost and one joins every 2 s', changing),
        ],
      ),
    );
    goal(
      `under ${percent(SESSIONS.share)} of a core, and ${SESSIONS.milliseconds} ms at p99`,
      steady.processor / steady.wall < SESSIONS.share && steady.delay.p99 * 1e3 < SESSIONS.milliseconds,
    );
    run.stop('SIGTERM');
    await run.done;
  } finally {
    workers.kill();
    rmSync(runDir, { recursive: true });
  }

  async function part(loseEveryMs: number | null): Promise<Measured & { times: SessionsTimes }> {
    workers.send({ loseEveryMs } satisfies SessionsChange);
    await once(workers, 'message');
    const measured = await measure(() => sleep(PART_SECONDS * 1e3));
    workers.send({ loseEveryMs: null } satisfies SessionsChange);
    const [times] = (await once(workers, 'message')) as [SessionsTimes];
    return { ...measured, times };
  }
}

interface Measured {
  /** Seconds, and those of the processor. */
  wall: number;
  processor: number;
  /** How late the event loop came to what was due, in seconds. */
  delay: { p99: number; most: number };
}

async function measure(work: () => Promise<unknown>): Promise<Measured> {
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  histogram.enable();
  const [started, before] = [performance.now(), process.cpuUsage()];
  await work();
  const { user, system } = process.cpuUsage(before);
  histogram.disable();
  return {
    wall: (performance.now() - started) / 1e3,
    processor: (user + system) / 1e6,
    delay: { p99: histogram.percentile(99) / 1e9, most: histogram.max / 1e9 },
  };
}
