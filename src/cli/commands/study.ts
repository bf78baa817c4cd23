/** `orchestrator study`: trains and scores variants of a configuration, and reports how they compare. */
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { OWN_VARIABLES } from '../../config/sources.js';
import { EXIT, OrchestratorError } from '../../errors.js';
import { stopWithParent } from '../../launch/children.js';
import { hostOf } from '../../native/host.js';
import { native } from '../../native/load.js';
import { onStopSignals, SIGNAL_EXIT, type StopSignal } from '../../signals.js';
import { childSeconds } from '../../study/busy.js';
import type { ShareNotice } from '../../study/execute.js';
import { chosenVariants, variantsOf } from '../../study/expand.js';
import { readStudy } from '../../study/folder.js';
import { picturesOf, referenceFile, referenceFor } from '../../study/prompts.js';
import { quickened } from '../../study/quick.js';
import { writeReport } from '../../study/report.js';
import { Study, type StudyOutcome } from '../../study/run.js';
import { scoreRun } from '../../study/score.js';
import { loadStudy } from '../../study/spec.js';
import type { StudyProgress } from '../../study/tally.js';
import { nearest } from '../../text/nearest.js';
import { counted, eta } from '../../text/quantities.js';
import { shellText } from '../../text/shell.js';
import { positiveInteger, timeLimit, workerCount } from '../arguments.js';
import { ignoreOutputErrors, printNote, printResult } from '../output.js';
import { fittedFields, Progress } from '../progress.js';

interface RunFlags {
  dir?: string;
  nodes: number;
  jobs?: number;
  only: string[];
  budget?: number;
  quick?: true;
  rerunChanged?: true;
}

export function register(program: Command): void {
  const study = program.command('study').description('train variants side by side, score them, and compare');
  study
    .command('run')
    .description('train and score the runs of a study; the same command goes on where it was stopped')
    .argument('<file>', 'YAML file of the study')
    .option('--dir <dir>', 'folder of the study (default: runs/NAME, with --quick runs/NAME-quick)')
    .option('--nodes <n>', 'number of nodes of each run, as in `launch`', workerCount, 1)
    .option('--jobs <n>', 'most runs side by side (default: as many as there are cores)', positiveInteger)
    .addOption(new Option('--only <name...>', 'variants to run').default([], 'all'))
    .option('--budget <time>', 'stop in order after this time, such as 90m, 2h or 1h30m', timeLimit)
    .option('--quick', "what the study's file has for a first try")
    .option('--rerun-changed', 'move runs of another configuration aside and train them again')
    .action(run);
  study
    .command('report')
    .description('write the report of a study: Markdown, JSON and figures, of the runs that are complete')
    .argument('<dir>', 'folder of the study')
    .option('--out <dir>', 'folder of the report (default: DIR/report)')
    .option('--json', 'print JSON')
    .action(async (dir: string, { out = join(dir, 'report'), json }: { out?: string; json?: true }) => {
      const report = join(out, 'report.md');
      printResult(
        { report, data: join(out, 'report.json'), ...(await writeReport(dir, out)) },
        json,
        ({ runs, complete }) => `${report}: ${complete} of ${counted(runs, 'run')}\n`,
      );
    });
  study
    .command('score')
    .description('score a trained run of a study again, as `study run` does')
    .argument('<dir>', 'folder of the study')
    .argument('<run>', 'name of the run')
    .option('--threads <n>', 'compute threads (default: one for each processor)', positiveInteger)
    .action(score);
}

async function run(file: string, flags: RunFlags): Promise<void> {
  const { nodes, jobs = null, only, budget = null, quick = false, rerunChanged: rerun = false } = flags;
  const loaded = loadStudy(file);
  const { study, only: some } = quick ? quickened(loaded) : { study: loaded, only: [] };
  const dir = flags.dir ?? join('runs', study.spec.name);
  ignoreVariables();
  const command = repeating(process.argv.slice(2));
  const { processors: cores } = hostOf(native());
  const screen = new Screen(study.spec.name);
  const variants = chosenVariants(variantsOf(study), some);
  const options = {
    study,
    dir,
    variants,
    chosen: chosenVariants(variants, only),
    nodes,
    cores,
    jobs,
    budget,
    rerun,
    command,
  };
  const running = new Study(options, screen);
  ignoreOutputErrors();
  const stopped = stopOnSignals(running, screen);
  const before = childSeconds();
  const outcome = await running.run();
  const after = childSeconds();
  const busy = before === null || after === null ? null : (after - before) / (outcome.seconds * cores);
  screen.line(summary(outcome, dir, busy));
  const signal = stopped();
  if (outcome.stopped === 'budget' && outcome.done < outcome.total) process.exitCode = EXIT.unfinished;
  if (outcome.failed.length > 0) process.exitCode = EXIT.failed;
  if (signal !== null) process.exitCode = SIGNAL_EXIT[signal];
}

/** The command of the report: where the study's folder is on this machine says nothing to others. */
function repeating(words: readonly string[]): string {
  const dir = words.indexOf('--dir');
  const others = words.filter(
    (word, i) => !word.startsWith('--dir=') && (dir < 0 || (i !== dir && i !== dir + 1)),
  );
  return shellText(['orchestrator', ...others]);
}

/** The first signal stops in order; a second Ctrl-C, from a second later on, at once. */
function stopOnSignals(study: Study, screen: Screen): () => StopSignal | null {
  let first: StopSignal | null = null;
  let at = 0;
  onStopSignals((signal) => {
    if (first !== null && signal === 'SIGINT' && performance.now() - at >= 1000) process.exit(EXIT.unsaved);
    if (first !== null) return;
    [first, at] = [signal, performance.now()];
    screen.line('stopping: what runs writes a checkpoint');
    study.stop('signal');
  });
  return () => first;
}

/** Variables of the configuration would change what the study's file says. */
function ignoreVariables(): void {
  for (const name of Object.keys(process.env)) {
    if (!name.startsWith('ORCHESTRATOR_') || OWN_VARIABLES.includes(name)) continue;
    printNote(`warn ${name} is ignored: what a study trains is in its file`);
    delete process.env[name];
  }
}

function summary(
  { done, total, failed, stopped, seconds }: StudyOutcome,
  dir: string,
  busy: number | null,
): string {
  const cores = busy === null ? '' : `, cores ${(100 * busy).toFixed(0)} % busy`;
  const lines = [`${done}/${counted(total, 'run')} complete after ${eta(seconds)}${cores}`];
  if (failed.length > 0) lines.push(`failed: ${failed.join(', ')}`);
  if (stopped === 'budget') lines.push('the budget is used up; the same command goes on');
  if (stopped === 'signal') lines.push('stopped; the same command goes on');
  lines.push(`report: orchestrator study report ${shellText([dir])}`);
  return lines.join('\n');
}

/** What a study says while it runs: one rewritten line on a terminal, otherwise a line at times. */
class Screen {
  readonly #name: string;
  #last = Number.NEGATIVE_INFINITY;
  #shown = '';
  #open = false;

  constructor(name: string) {
    this.#name = name;
  }

  line(text: string): void {
    if (this.#open) process.stderr.write('\r\x1b[K');
    this.#open = false;
    printNote(text);
  }

  progress({ done, total, running, seconds, remaining }: StudyProgress): void {
    const state = `${this.#name} | ${done}/${counted(total, 'run')}`;
    const time = `${eta(seconds)}${remaining === null ? '' : ` | eta ${eta(remaining)}`}`;
    if (process.stderr.isTTY) {
      process.stderr.write(`\r\x1b[K${fittedFields([state, time, ...running].join(' | '))}`);
      this.#open = true;
      return;
    }
    const now = performance.now();
    if (state === this.#shown && now - this.#last < 60_000) return;
    [this.#shown, this.#last] = [state, now];
    printNote(`${state} | ${time} | ${running.join(', ')}`);
  }
}

async function score(
  dir: string,
  name: string,
  { threads = null }: { threads?: number | null },
): Promise<void> {
  stopWithParent();
  const { evaluation, runs } = readStudy(dir);
  const found = runs.find((one) => one.name === name);
  if (found === undefined) {
    const near = nearest(
      name,
      runs.map((one) => one.name),
    );
    const advice = near === null ? '' : `; did you mean ${near}`;
    throw new OrchestratorError('ERR_USAGE', `${dir} has no run "${name}"${advice}`);
  }
  if (evaluation === null) throw new OrchestratorError('ERR_USAGE', `${dir} is a study without evaluation`);
  const pictures = picturesOf(found.path);
  const file = referenceFile(dir, found.data);
  const reference = await referenceFor(file, pictures, evaluation.reference, evaluation.pictures);
  const progress = new Progress('scoring', (done, total) => `${((100 * done) / total).toFixed(0)} %`);
  const { step, seconds } = await scoreRun({
    ...{ runDir: join(dir, name), pictures, reference, evaluation, threads, device: found.device },
    config: found.hash,
    onProgress: (done, total) => {
      progress.update(done, total);
      const notice: ShareNotice = { share: done / total };
      process.send?.(notice);
    },
  });
  process.stdout.write(`${name}: scored at step ${step} in ${eta(seconds)}\n`);
}
