// Disturbs runs at random moments, and compares each with a run that nothing disturbs:
// `npm run soak -- --faults N --seed S --minutes M --jobs J`. A seed gives the same faults of each run, in the same
// order and with the same waits. J runs are disturbed at the same time, each with an undisturbed one after it. Exits
// with 1 at the first run that hangs, fails or has other bits, whose folders stay, and with 2 if the time is over before
// all faults.
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

const MAIN = 'dist/cli/main.js';
const CONFIG = 'test/integration/training.yaml';
const WORKERS = 3;
/** Faults of one run: the pauses before a process is started again become longer with their number. */
const FAULTS_OF_RUN = 20;
/** A run that has not committed a step for so long hangs. */
const HANGS_MS = 300_000;
/** A worker that joins a run which has just ended gives up after 30 s. */
const LEFT_MS = 60_000;
/** Lines of a failed run that are printed; its folder has all. */
const TAIL_LINES = 200;
const SETTINGS = [
  'schedule.decay=constant',
  'checkpoint.every=15',
  'validation.every=10',
  'validation.bins=2',
];

const { faults, seed, minutes, jobs } = parse();
const random = generator(seed);
const below = (n) => Math.floor(random() * n);
const { kinds, missing } = availableKinds();
for (const reason of missing) console.log(`skipped: ${reason}`);
const root = mkdtempSync(join(tmpdir(), 'orchestrator-soak-'));
const deadline = Date.now() + minutes * 60_000;
/** Seconds from a fault to the next commit, by kind. */
const recoveries = new Map(kinds.map(({ name }) => [name, []]));
/** Seconds from the start of a coordinator that takes the place of another to its first commit. */
const returns = [];
const totals = { runs: 0, faults: 0, steps: 0, generations: 0, coordinators: 0, checkpoints: 0 };
/** Launchers and joined workers that have not ended. */
const children = new Set();
/** A run has failed, and the others are being ended. */
let failed = false;
let started = 0;
/** Faults of the runs that have started. */
let planned = 0;
const begun = performance.now();

await Promise.all(Array.from({ length: jobs }, disturbRuns));
rmSync(root, { recursive: true });
if (totals.faults < faults) {
  console.log(`the time is over after ${totals.faults} of ${faults} faults`);
  process.exitCode = 2;
}

/** Runs one after another, until all have had their faults or the time is over. */
async function disturbRuns() {
  while (!failed && planned < faults && Date.now() < deadline) {
    const count = Math.min(FAULTS_OF_RUN, faults - planned);
    planned += count;
    const number = started++;
    await disturb(number, number % 2 === 0 ? 'shared' : 'grpc', count);
    report();
  }
}

/** One run with faults, and the same steps without. */
async function disturb(number, exchange, count) {
  const runDir = join(root, `run-${number}`);
  const plan = Array.from({ length: count }, () => ({
    kind: kinds[below(kinds.length)],
    who: random(),
    waitMs: below(1_500),
    lastsMs: 200 + below(4_000),
    /** The next fault comes before this one is overcome. */
    follows: random() < 0.2,
  }));
  const sets = [...SETTINGS, `exchange=${exchange}`];
  const run = start(runDir, WORKERS, [...sets, 'schedule.steps=1000000'], ['--max-restarts', '1000000']);
  try {
    await commits(run, 1);
    for (const { kind, who, waitMs, lastsMs, follows } of plan) {
      await sleep(waitMs);
      const [before, at] = [ledgerBytes(run), performance.now()];
      await kind.disturb(run, who, lastsMs);
      totals.faults++;
      if (follows) continue;
      await growsBeyond(run, before, kind.name);
      recoveries.get(kind.name).push((performance.now() - at) / 1000);
      if (kind.name === 'coordinator kill') returns.push(ageOf(coordinatorOf(run)));
    }
    await commits(run, 2);
    run.process.kill('SIGTERM');
    const code = await run.code;
    if (code !== 143) throw new Error(`ended with exit code ${code}, not 143`);
    await nothingLeft(run);
    const { steps, ...counts } = recorded(runDir);
    const twin = start(`${runDir}-undisturbed`, 1, [...sets, `schedule.steps=${steps}`], []);
    if ((await twin.code) !== 0) throw new Error(`the undisturbed run failed:\n${twin.printed()}`);
    compare(runDir, twin.runDir, steps);
    totals.runs++;
    totals.steps += steps;
    for (const [name, number] of Object.entries(counts)) totals[name] += number;
    rmSync(runDir, { recursive: true });
    rmSync(twin.runDir, { recursive: true });
  } catch (error) {
    if (failed) return;
    failed = true;
    const story = plan.map(({ kind, waitMs, lastsMs }) => `${kind.name} after ${waitMs} ms (${lastsMs} ms)`);
    console.log(`${run.printed().split('\n').slice(-TAIL_LINES).join('\n')}\nfaults: ${story.join(', ')}`);
    console.log(`seed ${seed}, ${exchange}, ${runDir}: ${error.stack}`);
    run.process.kill('SIGKILL');
    await endAll();
    process.exit(1);
  }
}

/** Ends the runs that are beside one that has failed: in order, or else at once. */
async function endAll() {
  for (const child of children) child.kill('SIGTERM');
  for (const end = performance.now() + LEFT_MS; children.size > 0 && performance.now() < end; )
    await sleep(50);
  for (const child of children) child.kill('SIGKILL');
}

/** A process of this program, which is ended with it. */
function orchestrator(words, stdio) {
  if (failed) throw new Error('another run has failed');
  const child = spawn(process.execPath, [MAIN, ...words], { stdio });
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

/** The kinds of faults that this machine can have, and why it lacks others. */
function availableKinds() {
  const pids = ({ runDir }) => workersOf(runDir).map(({ pid }) => pid);
  const one = (run, who) => pids(run)[Math.floor(who * pids(run).length)];
  const pause = async (all, ms) => {
    for (const pid of all) send(pid, 'SIGSTOP');
    await sleep(ms);
    for (const pid of all) send(pid, 'SIGCONT');
  };
  const joins = (run) => {
    run.seen.add(orchestrator(['worker', '--join', run.runDir], 'ignore').pid);
  };
  const all = [
    { name: 'kill', disturb: (run, who) => send(one(run, who), 'SIGKILL') },
    {
      name: 'kill two',
      disturb: (run) => {
        for (const pid of pids(run).slice(0, 2)) send(pid, 'SIGKILL');
      },
    },
    { name: 'stop and continue', disturb: (run, who, ms) => pause([one(run, who)], ms) },
    { name: 'join', disturb: joins },
    {
      // The last one that leaves would end the run in order, so the others must live until it is gone.
      name: 'drain',
      disturb: async (run, who) => {
        const members = workersOf(run.runDir).filter(({ pid }) => lives(pid));
        const strangers = members.filter(({ id }) => id.startsWith(`${hostname()}-`));
        if (strangers.length === 0 || members.length === 1) return joins(run);
        const { pid } = strangers[Math.floor(who * strangers.length)];
        send(pid, 'SIGTERM');
        for (const end = performance.now() + LEFT_MS; lives(pid) && performance.now() < end; )
          await sleep(10);
      },
    },
    { name: 'coordinator kill', disturb: (run) => send(coordinatorOf(run), 'SIGKILL') },
    { name: 'coordinator stop', disturb: (run, _, ms) => pause([coordinatorOf(run)], ms) },
    { name: 'all stop', disturb: (run, _, ms) => pause([coordinatorOf(run), ...pids(run)], ms) },
  ];
  if (!has('prlimit')) return { kinds: all, missing: ['disk full (needs prlimit, of util-linux)'] };
  // To a process whose files may not grow, the disk is full.
  const limit = (pid, bytes) => {
    try {
      execFileSync('prlimit', ['--pid', String(pid), `--fsize=${bytes}:unlimited`], { stdio: 'ignore' });
    } catch {
      // It has ended.
    }
  };
  const diskFull = async (run, _, ms) => {
    const writers = pids(run);
    for (const pid of writers) limit(pid, 1_000_000);
    await sleep(ms);
    for (const pid of writers) limit(pid, 'unlimited');
  };
  return { kinds: [...all, { name: 'disk full', disturb: diskFull }], missing: [] };
}

function has(program) {
  const folders = (process.env.PATH ?? '').split(':');
  return folders.some((folder) => existsSync(join(folder, program)));
}

function start(runDir, workers, sets, more) {
  const settings = sets.flatMap((set) => ['--set', set]);
  const command = ['launch', CONFIG, '--nproc-per-node', String(workers), '--run-dir', runDir];
  const child = orchestrator([...command, ...settings, ...more], ['ignore', 'pipe', 'pipe']);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (more) => {
      text += more;
    });
  }
  const code = new Promise((resolve) => child.once('close', (code, signal) => resolve(code ?? signal)));
  return { process: child, runDir, code, printed: () => text, seen: new Set() };
}

function send(pid, signal) {
  try {
    if (pid !== undefined) process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}

/** Seconds since a process has started. */
function ageOf(pid) {
  const [ticks, up] = [readFileSync(`/proc/${pid}/stat`, 'utf8'), readFileSync('/proc/uptime', 'utf8')];
  // The name of the command, which may have spaces, ends with the last bracket. A tick is 10 ms.
  return Number(up.split(' ')[0]) - Number(ticks.slice(ticks.lastIndexOf(')')).split(' ')[20]) / 100;
}

/** Whether it is a process of a run. */
function lives(pid) {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(MAIN);
  } catch {
    return false;
  }
}

function lines(path) {
  const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

/** The workers of the generation that started last. */
function workersOf(runDir) {
  return lines(join(runDir, 'journal.jsonl')).findLast(({ workers }) => workers)?.workers ?? [];
}

/** The process that holds the run folder; undefined: none does. */
function coordinatorOf({ runDir }) {
  try {
    return JSON.parse(readFileSync(join(runDir, 'lock'), 'utf8')).pid;
  } catch {
    return undefined;
  }
}

function ledgerBytes({ runDir }) {
  const path = join(runDir, 'ledger.jsonl');
  return existsSync(path) ? statSync(path).size : 0;
}

async function growsBeyond(run, bytes, why) {
  const end = performance.now() + HANGS_MS;
  while (ledgerBytes(run) <= bytes) {
    if (!children.has(run.process)) throw new Error(`it ended after: ${why}`);
    if (performance.now() > end)
      throw new Error(`no step was committed for ${HANGS_MS / 1000} s after: ${why}`);
    await sleep(10);
  }
}

async function commits(run, steps) {
  for (let i = 0; i < steps; i++) await growsBeyond(run, ledgerBytes(run), 'commits');
}

async function nothingLeft({ runDir, seen }) {
  const journal = lines(join(runDir, 'journal.jsonl'));
  const all = [...seen, ...journal.flatMap(({ workers = [] }) => workers.map(({ pid }) => pid))];
  for (const end = performance.now() + LEFT_MS; all.some(lives) && performance.now() < end; ) await sleep(50);
  if (all.some(lives)) throw new Error(`processes are left: ${all.filter(lives)}`);
  const left = readdirSync(join(runDir, 'checkpoints')).filter((name) => !/^step-\d{8}$/.test(name));
  if (left.length > 0 || existsSync(join(runDir, 'lock'))) throw new Error(`files are left: ${left}`);
}

function recorded(runDir) {
  const journal = lines(join(runDir, 'journal.jsonl'));
  return {
    steps: lines(join(runDir, 'ledger.jsonl')).at(-1).step,
    generations: journal.filter(({ workers }) => workers).length,
    coordinators: journal.findLast(({ workers }) => workers).coordinator_restarts,
    checkpoints: lines(join(runDir, 'metrics.jsonl')).filter(({ type }) => type === 'checkpoint').length,
  };
}

/** Losses, ledger and the bits of the final state must be the same. */
function compare(runDir, twinDir, step) {
  const folder = `step-${String(step).padStart(8, '0')}`;
  const bits = (dir) => ({
    losses: lines(join(dir, 'metrics.jsonl')).flatMap(({ type, step, loss, gradient_norm }) =>
      type === 'step' ? [[step, loss, gradient_norm]] : [],
    ),
    ledger: lines(join(dir, 'ledger.jsonl')),
    files: ['model', 'ema', 'optimizer'].map((name) => {
      const file = readFileSync(join(dir, 'checkpoints', folder, `${name}.safetensors`));
      return createHash('sha256').update(file).digest('hex');
    }),
  });
  const [found, expected] = [bits(runDir), bits(twinDir)];
  for (const name of Object.keys(expected)) {
    if (JSON.stringify(found[name]) !== JSON.stringify(expected[name])) throw new Error(`${name} differ`);
  }
}

function report() {
  const seconds = (list, part) =>
    list.sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(part * list.length))];
  const counts = Object.entries(totals).map(([name, number]) => `${number} ${name}`);
  console.log(`${counts.join(', ')} in ${((performance.now() - begun) / 60_000).toFixed(1)} min`);
  for (const [name, list] of [...recoveries, ['coordinator kill, from its next start', returns]]) {
    if (list.length === 0) continue;
    const [half, most, worst] = [0.5, 0.95, 1].map((part) => seconds(list, part).toFixed(2));
    console.log(
      `  ${name}: ${list.length} times, next commit after ${half} s (median), ${most} s (p95), ${worst} s (longest)`,
    );
  }
}

/** Mulberry32: numbers in [0, 1). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x = (x + Math.imul(x ^ (x >>> 7), x | 61)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

function parse() {
  const number = (text, name) => {
    if (/^\d{1,9}$/.test(text)) return Number(text);
    console.error(`--${name}: expected a number, received ${text}`);
    process.exit(2);
  };
  const options = {
    faults: { type: 'string', default: '500' },
    seed: { type: 'string', default: '1' },
    minutes: { type: 'string', default: '45' },
    jobs: { type: 'string', default: '1' },
  };
  const { values } = parseArgs({ options });
  return Object.fromEntries(Object.entries(values).map(([name, text]) => [name, number(text, name)]));
}
