/**
 * engine-process.js CHOICE_JSON: trains for every line "SECONDS STEPS" on standard input; see RoundProcess.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import type { EngineChoice, EngineReady, EngineRound } from './engine.js';
import { BenchTrainer } from './trainer.js';

/**
 * Each timer of the monitor interrupts a compute thread while the others wait: at 1 ms, for 5 % of a step.
 */
const DELAY_RESOLUTION_MS = 10;
/** A shorter round, which is not timed, does not measure the event loop. */
const MONITORED_SECONDS = 0.5;

const chosen = JSON.parse(process.argv[2] as string) as EngineChoice;
const folder = mkdtempSync(join(tmpdir(), 'orchestrator-bench-'));
const trainer = await BenchTrainer.open(chosen, join(folder, 'data.bin'));
rmSync(folder, { recursive: true }); // the file stays mapped
await trainer.initialize();
const { parameters, flopsPerStep } = trainer;
print({ parameters, flopsPerStep });

const delay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
for await (const line of createInterface({ input: process.stdin })) {
  const [seconds, steps] = line.split(' ').map(Number) as [number, number];
  if (seconds >= MONITORED_SECONDS) delay.enable();
  const round = await trainer.run(seconds, steps);
  delay.disable();
  const eventLoopP99Seconds = Math.max(0, delay.percentile(99) / 1e9 - DELAY_RESOLUTION_MS / 1000);
  print({ ...round, peakBytes: peakResident(), eventLoopP99Seconds });
}
await trainer.engine.close();

function print(line: EngineReady | EngineRound): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function peakResident(): number {
  const status = readFileSync('/proc/self/status', 'utf8');
  return 1024 * Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]);
}
