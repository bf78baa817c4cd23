/**
 * The page of `launch --dry-run`: arithmetic, ranks, memory and commands of a run, without starting anything.
 */
import { describeBatch } from '../config/derived.js';
import type { Config } from '../config/schema.js';
import { gib } from '../memory/fit.js';
import { totalBytes } from '../memory/parts.js';
import { describeModel } from '../model/tensors.js';
import { describeDevice } from '../native/cuda.js';
import { hostOf } from '../native/host.js';
import { native } from '../native/load.js';
import { COORDINATION_BYTES } from '../planning/memory.js';
import { type RunTime, SPREAD } from '../planning/run-time.js';
import { describeSlots } from '../step/assignment.js';
import { namedRows } from '../text/columns.js';
import { bytes, counted, duration, flopCount, flopRate, timeSpan } from '../text/quantities.js';
import { type DryRun, dryRunData } from './dry-run-data.js';
import type { Launcher } from './launcher.js';
import { heldOutShare, type Preflight } from './preflight.js';
import type { LaunchOptions, RunHost } from './processes.js';

/**
 * The page as text. A run may be planned on another machine, so neither the data set (if the configuration
 * has its shapes) nor a GPU is needed.
 *
 * @param time null where it is unknown: on a GPU, and on another machine.
 */
export function renderDryRun(
  run: LaunchOptions,
  launcher: Launcher,
  found: Preflight,
  time: RunTime | null,
): string {
  const { figures, place, resolved } = found;
  const { config, model } = resolved;
  const host = hostOf(native());
  const planned = dryRunData(run, launcher, found, time);
  const least = `at least ${gib(totalBytes(figures.machine))}, that of the ranks and ${gib(COORDINATION_BYTES)}`;
  const has = place === null ? '' : `; ${place.source} ${gib(place.bytes)}`;
  const facts = {
    run: `${config.name} in ${run.runDir}, resume ${run.resume}`,
    start: resolved.start,
    machine: `${counted(host.processors, 'processor')}, ${host.isa}`,
    data: describeData(config, found),
    model: `${(figures.parameters / 1e6).toFixed(2)} M parameters, ${figures.precision}; ${describeModel(model)}`,
    batch: describeBatch(config),
    steps: describeSteps(found),
    work: `${flopCount(figures.flopsPerStep)} of the model a step`,
    time: time === null ? unknownTime(config.device, run.hosts) : describeTime(time),
    memory: `${least} of the coordinator and the launcher${has}`,
    disk: describeDisk(found),
    ...(planned.record_bytes === null
      ? {}
      : { records: `about ${bytes(planned.record_bytes)} by the last step` }),
  };
  const commands = [
    '',
    'commands (the coordinator prints the credential, which the workers read from their input; --inspect-port keeps SIGUSR1 from opening a debugger)',
    ...planned.processes.flatMap(({ name, host, command }) => [`  # ${name}, on ${host}`, `  ${command}`]),
  ];
  return `${[
    ...namedRows(facts),
    ...listed('', resolved.notes),
    ...listed('warn ', found.warnings),
    '',
    ...planned.ranks.map((one) => {
      const slots = describeSlots({ lo: one.first_slot, hi: one.end_slot });
      return `rank ${one.rank}   ${slots} (${one.samples} samples), ${describeRank(found, one)}`;
    }),
    // A run that is refused is not started; what refuses it is printed next.
    ...(found.problems.length === 0 ? commands : []),
  ].join('\n')}\n`;
}

/** Lines below an empty one; none if there is nothing to tell. */
function listed(level: string, texts: readonly string[]): string[] {
  return texts.length === 0 ? [] : ['', ...texts.map((text) => `${level}${text}`)];
}

function describeData({ data }: Config, { rows, noData }: Preflight): string {
  if (rows === null) return `not here (${noData?.message}): shapes from the configuration`;
  return `${data.path}: ${heldOutShare(data.validation_rows, rows)} are held out for validation`;
}

/** The steps that remain, and the samples and epochs of the whole run. */
function describeSteps({ resolved: { config, step, segments }, rows }: Preflight): string {
  const { batch, schedule, data } = config;
  const epochs = (steps: number) =>
    rows === null ? '' : `${((steps * batch.global) / (rows - data.validation_rows)).toFixed(2)} epochs`;
  const { steps } = schedule;
  const changed = segments.length > 1 ? segments.at(-1)!.firstStep : null;
  const whole = changed === null && rows !== null ? ` = ${epochs(steps)}` : '';
  const all = `${steps} = ${steps * batch.global} samples${whole}`;
  if (step === 0) return all;
  if (step >= steps) return `${all}; none remains`;
  const since = changed === null ? '' : `, ${epochs(steps - changed + 1)} of the changed data`;
  return `${all}; ${step + 1} to ${steps} remain${since}`;
}

/** Why the time of a run is unknown. */
export function unknownTime(device: Config['device'], hosts: readonly RunHost[]): string {
  const others = hosts.filter(({ ssh }) => ssh !== null).map(({ name }) => name);
  const named = others.length > 3 ? `each of the ${others.length} other hosts` : others.join(', ');
  const why =
    device === 'cpu' && others.length > 0
      ? `unknown: ${named} may differ from this machine`
      : 'unknown for another machine or a GPU';
  return `${why}; \`orchestrator estimate\` computes it with --flops and --bandwidth`;
}

function describeTime(time: RunTime): string {
  const { step, validation, run, peak, busy } = time;
  const range = (seconds: number, text: (seconds: number) => string) => {
    const [least, most] = [text(SPREAD.least * seconds), text(SPREAD.most * seconds)];
    return least === most ? least : `${least} to ${most}`;
  };
  const validations = validation === null ? '' : `, ${range(validation, duration)} a validation`;
  const times = `${range(step, duration)} a step${validations}, ${range(run, timeSpan)} the run`;
  const idle = `if nothing else computes here; large matmuls reach ${flopRate(peak)}`;
  if (busy === null) return `${times} (${idle})`;
  const load = `load average ${busy.load.toFixed(1)}, ${counted(busy.processors, 'processor')}`;
  return `${times} (${idle}); other processes do now (${load}): up to ${busy.factor.toFixed(1)} times as long`;
}

function describeDisk({ room }: Preflight): string {
  const { most, free } = room;
  const left = free === null ? '' : `; ${bytes(free)} are free`;
  return `${bytes(room.bytes)} a checkpoint, up to ${most} at once: ${bytes(room.bytes * most)}${left}`;
}

/** Where a rank computes, and the least memory that it needs there. */
function describeRank(
  { gpus, noGpu }: Preflight,
  { rank, threads, memory_bytes: host, device_bytes: onDevice }: DryRun['ranks'][number],
): string {
  const compute = counted(threads, 'thread');
  const memory = `memory at least ${gib(host)}`;
  if (onDevice === null) return `${compute}, ${memory}`;
  const gpu = gpus?.[rank];
  const reason = (noGpu?.cause as Error | undefined)?.message ?? noGpu?.message;
  const device =
    gpu === undefined
      ? `a GPU${noGpu === null ? '' : ` (none here: ${reason})`}`
      : `GPU ${gpu.ordinal} (${describeDevice(gpu)})`;
  return `${device}, ${compute}, ${memory}, and ${gib(onDevice)} of the GPU`;
}
