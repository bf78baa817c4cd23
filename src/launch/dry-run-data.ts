/** What `launch --dry-run --json` prints, and what the page of dry-run.ts is made from. */
import { slotCount, slotSamples } from '../config/schema.js';
import type { OrchestratorError } from '../errors.js';
import { totalBytes } from '../memory/parts.js';
import { recordBytes } from '../planning/records.js';
import type { RunTime } from '../planning/run-time.js';
import { assignSlots } from '../step/assignment.js';
import type { Launcher } from './launcher.js';
import { local } from './local.js';
import type { Preflight } from './preflight.js';
import {
  coordinatorProcess,
  type LaunchOptions,
  type ProcessSpec,
  workerProcess,
  workersOf,
} from './processes.js';

export type DryRun = ReturnType<typeof dryRunData>;

/** @param time null where it is unknown: on a GPU, and on another machine. */
export function dryRunData(run: LaunchOptions, launcher: Launcher, found: Preflight, time: RunTime | null) {
  const { figures, place, resolved, rows, room, problems } = found;
  const { config, start, step, notes } = resolved;
  const { batch, schedule, data } = config;
  const samples = schedule.steps * batch.global;
  const processOf = (spec: ProcessSpec, by: Launcher) => ({
    name: spec.name,
    host: spec.host.name,
    command: by.shellLine(spec),
  });
  const ranges = assignSlots(slotCount(config), workersOf(run));
  return {
    run_dir: run.runDir,
    resume: run.resume,
    start,
    /** The step from which the run goes on. */
    step,
    config,
    parameters: figures.parameters,
    precision: figures.precision,
    rows,
    samples,
    epochs: rows === null ? null : samples / (rows - data.validation_rows),
    slots: slotCount(config),
    flops_per_step: figures.flopsPerStep,
    time,
    memory_bytes: totalBytes(figures.machine),
    memory_available_bytes: place?.bytes ?? null,
    checkpoint_bytes: room.bytes,
    checkpoints_at_once: room.most,
    disk_free_bytes: room.free,
    record_bytes: recordBytes(config, workersOf(run)),
    ranks: ranges.map(({ lo, hi }, rank) => ({
      rank,
      first_slot: lo,
      end_slot: hi,
      samples: (hi - lo) * slotSamples(config),
      threads: figures.spec.threads,
      memory_bytes: figures.rankLeast[rank]!,
      device_bytes: figures.rankGpu === null ? null : totalBytes(figures.rankGpu[rank]!),
    })),
    processes: [
      processOf(coordinatorProcess(run), local),
      ...ranges.map((_, rank) => processOf(workerProcess(run, rank), launcher)),
    ],
    notes,
    warnings: found.warnings,
    problems: problems.map(({ code, message, hint }: OrchestratorError) => ({ code, message, hint })),
  };
}
