/**
 * The state of a run as lines of a given width. A number is on them whole or not at all: what does not fit is
 * left out, the least important first.
 */
import { fittedRows } from '../text/columns.js';
import { bytes, counted, duration, eta, flopRate, quantity, rough } from '../text/quantities.js';
import type { painter } from './console.js';
import { etaText, imageRate, memoryOf } from './lines.js';
import type { WorkerReport } from './record.js';
import type { RunView, WorkerView } from './run-progress.js';

const BAR = { least: 10, most: 40 };
/** A name is shortened to this many characters before it is left out. */
const SHORTEST_NAME = 4;

type Paint = ReturnType<typeof painter>;
type Style = Parameters<Paint>[0];

/** A piece of text that is shown whole or not at all; null: there is none. */
type Item = readonly [text: string, style?: Style] | null;

/** Items in the order of their importance, as many as fit. */
function fitted(items: readonly Item[], width: number, paint: Paint): string[] {
  let used = 0;
  const parts: string[] = [];
  for (const item of items) {
    if (item === null) continue;
    const [text, style] = item;
    const more = text.length + (parts.length === 0 ? 0 : 3);
    if (used + more > width) continue;
    used += more;
    parts.push(style === undefined ? text : paint(style, text));
  }
  return parts.length === 0 ? [] : [parts.join(' | ')];
}

/** "my-run  RUNNING  ######....  42 %  step 21/50  eta 2h30m" */
function titleLine(view: RunView, width: number, paint: Paint): string {
  const { name, phase, step, steps, remaining_seconds: remaining, validating_seconds: validating } = view;
  const doing = validating === null ? phase : `${phase}, validating`;
  const place = `step ${step}/${steps}`;
  const left = remaining === null ? null : etaText(remaining, view.remaining_is_rough === true);
  // A run may have been told to have fewer steps than it has made.
  const done = Math.min(step, steps);
  const percent = `${Math.floor((100 * done) / steps)} %`;
  let room = width + 2;
  const take = (text: string | null) => {
    if (text === null || text.length + 2 > room) return null;
    room -= text.length + 2;
    return text;
  };
  const taken = { place: take(place), phase: take(doing), left: take(left), percent: take(percent) };
  const short = name.length + 2 <= room ? name : `${name.slice(0, Math.max(0, room - 3))}…`;
  const shown = short.length >= Math.min(name.length, SHORTEST_NAME) ? take(short) : null;
  const length = Math.min(BAR.most, room - 2);
  const filled = Math.round((length * done) / steps);
  const bar =
    length < BAR.least ? null : paint('cyan', `${'#'.repeat(filled)}${'.'.repeat(length - filled)}`);
  return [
    shown === null ? null : paint('bold', shown),
    ...[taken.phase, bar, taken.percent, taken.place, taken.left],
  ]
    .filter((part) => part !== null)
    .join('  ');
}

const known = (value: number | null, text: (value: number) => string): Item =>
  value === null ? null : [text(value)];

export function viewLines(view: RunView, width: number, paint: Paint): string[] {
  const { validation, checkpoint, validating_slots: slots } = view;
  const losses: Item[] = [
    view.loss === null ? null : [`loss ${quantity(view.loss)}`, 'bold'],
    known(view.mean_loss, (loss) => `mean ${quantity(loss)}`),
    known(view.gradient_norm, (norm) => `grad norm ${rough(norm)}`),
    known(view.learning_rate, (rate) => `lr ${rate.toExponential(1)}`),
    known(view.max_abs_logit, (logit) => `logit ${logit.toFixed(1)}`),
    known(view.clipped_share || null, (share) => `${Math.ceil(100 * share)} % of steps clipped`),
  ];
  const speeds: Item[] = [
    known(view.samples_per_second, imageRate),
    known(view.step_seconds, (seconds) => `${duration(seconds)} a step`),
    [`elapsed ${eta(view.elapsed_seconds)}`],
    known(view.epoch, (epoch) => `epoch ${epoch.toFixed(2)}`),
    [counted(view.restarts, 'restart')],
    known(view.flops_per_second, flopRate),
  ];
  const validations: Item[] = [
    known(validation?.last?.loss ?? null, (loss) => `validation ${quantity(loss)}`),
    known(validation?.last?.step ?? null, (step) => `at step ${step}`),
    known(validation?.best?.loss ?? null, (loss) => `best ${quantity(loss)} at ${validation?.best?.step}`),
    validation === null ? null : [validation.weights],
    known(view.validating_seconds, (seconds) => `validating for ${eta(seconds)}`),
    slots === null ? null : [`${slots.done} of ${slots.total} slots`],
    known(validation?.seconds ?? null, (seconds) => `took ${duration(seconds)}`),
  ];
  const checkpoints: Item[] = [
    checkpoint === null ? ['no checkpoint yet'] : [`checkpoint of step ${checkpoint.step}`],
    known(checkpoint?.age_seconds ?? null, (age) => `${eta(age)} ago`),
    view.missed_checkpoints === 0 ? null : [`${view.missed_checkpoints} missed`, 'yellow'],
    known(checkpoint?.free_bytes ?? null, (free) => `${bytes(free)} free`),
  ];
  const stragglers = view.stragglers.map(
    ({ rank, host, times }): Item => [
      `rank ${rank} on ${host} is slow: ${times.toFixed(1)} times the median`,
      'yellow',
    ],
  );
  return [
    titleLine(view, width, paint),
    ...(view.loss === null ? [] : [losses, speeds, validations, checkpoints, stragglers]).flatMap((items) =>
      fitted(items, width, paint),
    ),
  ];
}

/** A page names so many workers; the JSON has all. */
const LISTED = 32;

/** The workers as a table. Where there are more than a page has room for, those that do not train come first. */
export function memberLines(members: readonly WorkerView[], width: number): string[] {
  const isLong = members.length > LISTED;
  const rank = ({ state }: WorkerView) => Number(state === 'training');
  const shown = isLong ? members.toSorted((a, b) => rank(a) - rank(b)).slice(0, LISTED) : members;
  if (shown.length === 0) return [];
  const rows = shown.map(({ rank, id, host, pid, state, device }) => [
    ...[rank === null ? '-' : String(rank), state, host || '-', pid === null ? '-' : String(pid), id],
    ...(members.some(({ device }) => device !== '') ? [device || '-'] : []),
  ]);
  const headings = ['rank', 'state', 'host', 'pid', 'worker', ...(rows[0]!.length > 5 ? ['device'] : [])];
  const more = isLong ? [`and ${counted(members.length - LISTED, 'other')} (--json lists all)`] : [];
  return [...fittedRows([headings, ...rows], width), ...more];
}

interface Column {
  title: string;
  value: (worker: WorkerReport) => string;
}

/** The columns of the workers, the most important first. */
function columnsOf(workers: readonly WorkerReport[]): Column[] {
  const seconds = (title: string, value: (numbers: WorkerReport['numbers']) => number): Column => ({
    title,
    value: ({ numbers }) => duration(value(numbers)),
  });
  return [
    { title: 'rank', value: ({ rank }) => String(rank) },
    { title: 'slots', value: ({ firstSlot, endSlot }) => `${firstSlot}-${endSlot - 1}` },
    seconds('total', ({ total_seconds }) => total_seconds),
    seconds('compute', ({ compute_seconds }) => compute_seconds),
    seconds('exchange', ({ exchange_seconds }) => exchange_seconds),
    {
      title: workers.some(({ device }) => device !== '') ? 'GPU memory' : 'memory',
      value: (worker) => bytes(memoryOf(worker)),
    },
    seconds('data', ({ gather_seconds }) => gather_seconds),
    seconds('update', ({ update_seconds }) => update_seconds),
    { title: 'pid', value: ({ pid }) => String(pid) },
    seconds('loop p99', ({ event_loop_p99_seconds }) => event_loop_p99_seconds),
  ];
}

/** The workers as a table of at most `height` lines: columns and workers that do not fit are left out. */
export function workerLines(
  workers: readonly WorkerReport[],
  width: number,
  height: number,
  paint: Paint,
): string[] {
  if (workers.length === 0) return [];
  const columns = columnsOf(workers);
  const rows = workers.map((worker) => columns.map(({ value }) => value(worker)));
  const [head, ...body] = fittedRows([columns.map(({ title }) => title), ...rows], width);
  if (head === undefined) return [];
  if (1 + body.length <= height) return [paint('dim', head), ...body];
  const room = height - 2;
  if (room < 1) return [];
  const more = `and ${counted(body.length - room, 'more worker')}`;
  return [paint('dim', head), ...body.slice(0, room), ...(more.length <= width ? [more] : [])];
}
