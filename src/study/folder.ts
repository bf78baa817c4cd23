/**
 * The folder of a study. Each run has an ordinary run folder in it, by its name; beside them are `study.json`,
 * which says what the study is, `configs/` with the configuration of every run, `logs/` with what they printed,
 * `references/`, `journal.jsonl` with what was done when, and `report/`.
 */
import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { z } from 'zod';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { listCheckpoints, removeCheckpoints } from '../checkpoint/retention.js';
import { parseConfig } from '../config/load.js';
import { leaves, show, valueAt } from '../config/value.js';
import { LOCK } from '../coordinator/run-dir.js';
import { OrchestratorError } from '../errors.js';
import { canonicalHash } from '../files/hash.js';
import { makeFolders, replaceFile, textOrNull, uniqueSuffix, writeDurably } from '../files/io.js';
import { readJson } from '../files/json.js';
import { JsonlFile, leadingLines } from '../files/jsonl.js';
import { lockFile } from '../native/lock.js';
import { type StudyRun, withoutExecution } from './expand.js';
import { evaluationSchema } from './schema.js';
import { storedScores } from './score.js';
import { missingValidation, type ValidatedSteps } from './validations.js';

const STUDY_FILE = 'study.json';

const studyFileSchema = z.strictObject({
  format: z.literal('orchestrator-study'),
  version: z.literal(1),
  name: z.string(),
  /** The command that runs it again, whatever its folder. */
  command: z.string(),
  evaluation: evaluationSchema.nullable(),
  runs: z.array(
    z.strictObject({
      name: z.string(),
      variant: z.string(),
      data: z.string(),
      seed: z.int(),
      hash: z.string(),
      formulation: z.string(),
      steps: z.int().positive(),
      /** Steps between two validations. */
      every: z.int().positive(),
      /** Path of the data set. */
      path: z.string(),
      device: z.enum(['cpu', 'cuda']),
    }),
  ),
});

/** What a study is, as `report` and `score` read it. */
export type StudyFile = z.infer<typeof studyFileSchema>;
export type ListedRun = StudyFile['runs'][number];

export function readStudy(dir: string): StudyFile {
  if (existsSync(join(dir, STUDY_FILE))) return readJson(join(dir, STUDY_FILE), studyFileSchema);
  throw new OrchestratorError(
    'ERR_RUN_DIR',
    `${dir} is not the folder of a study: it has no ${STUDY_FILE}`,
    '`orchestrator study run FILE` makes it, as runs/NAME',
  );
}

export function listed(runs: readonly StudyRun[]): ListedRun[] {
  return runs.map(({ name, variant, data, seed, hash, config }) => ({
    ...{ name, variant, data, seed, hash },
    ...{
      formulation: config.objective.formulation,
      steps: config.schedule.steps,
      every: config.validation.every,
    },
    ...{ path: config.data.path, device: config.device },
  }));
}

/** What has happened in a study; seconds are those of the wall clock. */
const journalSchema = z.object({
  event: z.enum(['trained', 'stopped', 'scored', 'failed']),
  run: z.string(),
  part: z.enum(['training', 'scoring']).optional(),
  seconds: z.number(),
  threads: z.number(),
  error: z.string().optional(),
  unix_seconds: z.number(),
});

export type JournalLine = z.infer<typeof journalSchema>;

const JOURNAL = 'journal.jsonl';

export function journalOf(dir: string): JournalLine[] {
  const lines: JournalLine[] = [];
  leadingLines(join(dir, JOURNAL), (line) => {
    const parsed = journalSchema.safeParse(line);
    if (parsed.success) lines.push(parsed.data);
    return true;
  });
  return lines;
}

export type RunState = 'new' | 'begun' | 'trained' | 'scored';

export class StudyFolder {
  readonly path: string;
  readonly #unlock: () => void;
  readonly #journal: JsonlFile;

  private constructor(path: string, unlock: () => void) {
    this.path = path;
    this.#unlock = unlock;
    this.#journal = new JsonlFile(join(path, JOURNAL));
  }

  /** Locks the folder, creating it if it is missing. */
  static async open(path: string): Promise<StudyFolder> {
    for (const name of ['configs', 'logs', 'references']) await makeFolders(join(path, name));
    return new StudyFolder(path, lockFile(join(path, LOCK)));
  }

  close(): void {
    this.#journal.close();
    this.#unlock();
  }

  runDir(run: string): string {
    return join(this.path, run);
  }

  configFile(run: string): string {
    return join(this.path, 'configs', `${run}.yaml`);
  }

  logFile(run: string): string {
    return join(this.path, 'logs', `${run}.log`);
  }

  note(line: Omit<JournalLine, 'unix_seconds'>): void {
    this.#journal.append({ ...line, unix_seconds: Date.now() / 1000 });
  }

  async writeStudy(study: Omit<StudyFile, 'format' | 'version'>): Promise<void> {
    const file = { format: 'orchestrator-study', version: 1, ...study };
    await this.#write(join(this.path, STUDY_FILE), `${JSON.stringify(file, null, 2)}\n`);
  }

  async writeConfig({ name, config }: StudyRun): Promise<void> {
    const text = stringify(config);
    if (textOrNull(this.configFile(name)) !== text) await this.#write(this.configFile(name), text);
  }

  /**
   * How another configuration than the given one was trained in a run's folder: "schedule.steps was 900 and is
   * 300"; null if it is the same, or if nothing was trained.
   */
  changeOf({ name, config, hash }: StudyRun): string | null {
    const text = existsSync(this.runDir(name)) ? textOrNull(this.configFile(name)) : null;
    if (text === null) return null;
    const former = withoutExecution(parseConfig(text, this.configFile(name)));
    if (canonicalHash(former) === hash) return null;
    const now = withoutExecution(config);
    const changed = [...leaves(now)].find(({ path, value }) => show(valueAt(former, path)) !== show(value));
    if (changed === undefined) return 'it has other keys';
    const { path, value } = changed;
    return `${path.join('.')} was ${show(valueAt(former, path))} and is ${show(value)}`;
  }

  /** Moves what was trained out of the way. */
  setAside(run: string): string {
    const path = join(this.path, `superseded-${run}-${uniqueSuffix()}`);
    renameSync(this.runDir(run), path);
    return path;
  }

  async #write(path: string, text: string): Promise<void> {
    await replaceFile(path, (temporary) => writeDurably(temporary, text));
  }
}

/**
 * Makes a run that is resumed do a validation that it was stopped in: it goes on from the checkpoint before. Its
 * bits are the same, so the step that is scored does not depend on when the run was stopped.
 */
export async function rewindToValidation(runDir: string, validated: ValidatedSteps): Promise<void> {
  const root = join(runDir, CHECKPOINTS);
  const [latest] = await listCheckpoints(root);
  const missing = latest === undefined ? null : missingValidation(runDir, validated, latest.step);
  if (missing !== null) await removeCheckpoints(root, (step) => step >= missing);
}

/**
 * How far a run of a study is. Without an evaluation a trained run needs no scores. With one, only the checkpoint
 * that was scored is kept, and the scores tell that the run was trained.
 */
export async function runState(
  dir: string,
  { name, hash, steps, every }: ListedRun,
  evaluation: StudyFile['evaluation'],
): Promise<RunState> {
  const runDir = join(dir, name);
  const stored = evaluation === null ? null : storedScores(runDir, { config: hash, evaluation });
  if (stored !== null) return stored.current ? 'scored' : 'trained';
  const [latest] = await listCheckpoints(join(runDir, CHECKPOINTS));
  if (latest === undefined) return existsSync(runDir) ? 'begun' : 'new';
  if (latest.step < steps || missingValidation(runDir, { every, steps }, steps) !== null) return 'begun';
  return evaluation === null ? 'scored' : 'trained';
}
