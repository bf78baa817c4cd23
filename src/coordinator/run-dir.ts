/**
 * The run folder: who may use it, what is in it, and how it changes when a run begins.
 *
 * Until all workers are ready for the first step, nothing in the folder is changed except the lock, and what a
 * killed process left is cleaned up. Then begin() changes it in an order in which a kill at any moment leaves
 * a run that goes on: later checkpoints are set aside, records are cut back to the checkpoint, the former
 * configuration is kept beside the new one, and the new generation is written to the journal.
 */
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { recoverStore, setAsideLater } from '../checkpoint/retention.js';
import { OrchestratorError } from '../errors.js';
import {
  isOpenToAll,
  makeFolders,
  syncFolderNow,
  systemFailure,
  textOrNull,
  writeFailure,
} from '../files/io.js';
import { damageOf, JsonlFile, leadingLines } from '../files/jsonl.js';
import { lastStep as lastRecorded } from '../files/jsonl-seek.js';
import { lockFile, lockHeld, lockOwner } from '../native/lock.js';
import { type Segment, segmentsSchema } from '../step/segment.js';
import type { ValidationLoss } from '../telemetry/run-progress.js';
import { stepsText } from '../text/quantities.js';
import { MetricsFile, type MetricsTotals, type RecordedTotals, totalsIn } from './metrics-totals.js';
import type { ResolvedRun } from './resolve-run.js';

export const CONFIG = 'config.yaml';
export const JOURNAL = 'journal.jsonl';
export const LEDGER = 'ledger.jsonl';
export const LOCK = 'lock';
export const LOG = 'run.log';
export const METRICS = 'metrics.jsonl';
/** What a folder of a run has. */
const OF_RUNS = [CONFIG, JOURNAL, CHECKPOINTS];
const WRITTEN = [LEDGER, METRICS, JOURNAL, CONFIG, LOG];
/** What a folder of data or weights has. */
const FOREIGN =
  /^(manifest|state|dataset_info|dataset_dict|model_index)\.json$|\.safetensors(\.index\.json)?$/;

/** Types of /proc and /sys (statfs(2)), which root seems to be allowed to write in. */
const OF_KERNEL: ReadonlySet<number> = new Set([0x9fa0, 0x62656572]);

/** The records of a run, which grow with it. */
interface Records {
  /** A digest of the row numbers of each committed step; see ledger-file.ts. */
  ledger: JsonlFile;
  metrics: MetricsFile;
  /** Generations and durable steps. */
  journal: JsonlFile;
}

/** The part of the records that stays valid when a run resumes from a step. */
export interface KeptRecords extends Omit<Begun, 'notes'> {
  bytes: { ledger: number; metrics: number };
  totals: MetricsTotals;
}

interface Begun {
  notes: string[];
  /** What is damaged or missing, which does not affect training. */
  warnings: string[];
  /** Validation losses of the EMA up to the step from which the run goes on, by step. */
  losses: Map<number, number>;
  /** The losses by which validations are compared, up to the same step. */
  validations: ValidationLoss[];
}

/**
 * Refuses a folder that a run cannot use: not writable, not a folder, of data or weights, or locked by
 * another run. Changes nothing.
 */
export function checkRunDir(path: string): void {
  let existing = resolve(path);
  while (!existsSync(existing)) existing = dirname(existing);
  try {
    if (!statSync(existing).isDirectory()) {
      throw new Error(`${existing === resolve(path) ? 'it' : existing} is a file, not a folder`);
    }
    accessSync(existing, constants.W_OK | constants.X_OK);
    if (OF_KERNEL.has(statfsSync(existing).type)) {
      throw new Error(`${existing} belongs to the kernel, and nobody can make folders there`);
    }
    if (existing === resolve(path) && isOpenToAll(statSync(path))) {
      throw new Error('it is the folder of another user, and everybody may write in it');
    }
  } catch (error) {
    throw unusable(path, error);
  }
  if (existing !== resolve(path)) return;
  const names = readdirSync(path);
  const foreign = names.find((name) => FOREIGN.test(name));
  if (foreign !== undefined && !names.some((name) => OF_RUNS.includes(name))) {
    throw new OrchestratorError(
      'ERR_RUN_DIR',
      `${path} is a folder of data or weights (it holds ${foreign}), not of a run`,
      'Choose another with --run-dir',
    );
  }
  for (const name of WRITTEN) checkWritable(join(path, name));
  const owner = lockOwner(join(path, LOCK));
  if (owner !== null) throw lockHeld(join(path, LOCK), owner);
}

/** Refuses a file that exists and cannot be written. */
function checkWritable(path: string): void {
  if (!existsSync(path)) return;
  try {
    closeSync(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK));
  } catch (error) {
    throw writeFailure(path, error);
  }
}

function unusable(path: string, error: unknown): OrchestratorError {
  return systemFailure(
    'ERR_RUN_DIR',
    'write in the run folder',
    path,
    error,
    'Choose another with --run-dir',
  );
}

/** A run folder whose lock this process holds. */
export class RunDir {
  readonly path: string;
  /** Messages about what a killed process had left. */
  readonly notes: readonly string[];
  /** The last generation in the journal, or 0. */
  readonly lastGeneration: number;
  /** How many of them followed a fault, or the end of another process. */
  readonly restarts: number;
  /** When the run was started for the first time, in seconds since 1970. */
  readonly started: number;
  /** How often a coordinator has taken the place of one that had died. */
  readonly coordinatorRestarts: number;
  readonly #unlock: () => void;
  /** Folders that did not exist before, the outermost first. */
  readonly #made: readonly string[];
  #records: Records | null = null;

  private constructor(path: string, made: readonly string[], unlock: () => void, notes: readonly string[]) {
    this.path = path;
    this.notes = notes;
    const { lastGeneration, restarts, started, coordinatorRestarts } = journalOf(path);
    this.lastGeneration = lastGeneration;
    this.restarts = restarts;
    this.coordinatorRestarts = coordinatorRestarts;
    this.started = started ?? Date.now() / 1000;
    this.#made = made;
    this.#unlock = unlock;
  }

  /** Locks the folder, creating it if it is missing, and cleans up after killed processes. */
  static async open(path: string): Promise<RunDir> {
    checkRunDir(path);
    const made = await makeFolders(path).catch((error) => {
      throw unusable(path, error);
    });
    let unlock = () => {};
    try {
      unlock = lockFile(join(path, LOCK));
      return new RunDir(path, made, unlock, await recoverStore(join(path, CHECKPOINTS), true));
    } catch (error) {
      unlock();
      removeEmpty(made);
      throw error;
    }
  }

  /** Whether the run has begun to write its records. */
  get begun(): boolean {
    return this.#records !== null;
  }

  get records(): Records {
    if (this.#records === null) throw new Error('the run has not begun');
    return this.#records;
  }

  /**
   * Makes the folder that of a run which continues after a step; see above for the order.
   * @returns messages about what was done, and about damage that does not affect training.
   */
  begin(resolved: Pick<ResolvedRun, 'config' | 'own' | 'step'>, kept: KeptRecords): Begun {
    const renamed = setAsideLater(join(this.path, CHECKPOINTS), resolved.step);
    const before = lastRecorded(join(this.path, LEDGER));
    const { notes, ...begun } = this.continue(resolved, kept);
    return {
      ...begun,
      notes: [
        ...renamed.map((other) => `later checkpoint renamed: ${other}`),
        ...replacedRecords(before, recordedStep(resolved)),
        ...notes,
      ],
    };
  }

  /** Makes the folder that of a run that continues after the death of a coordinator. */
  continue({ config }: Pick<ResolvedRun, 'config'>, { bytes, totals, ...kept }: KeptRecords): Begun {
    const file = join(this.path, JOURNAL);
    const leading = leadingLines(file, () => true);
    const damage = damageOf(file, leading);
    const records = {
      ledger: new JsonlFile(join(this.path, LEDGER)),
      metrics: new MetricsFile(join(this.path, METRICS), totals),
      journal: new JsonlFile(file),
    };
    records.ledger.cutTo(bytes.ledger);
    records.metrics.cutTo(bytes.metrics);
    records.journal.cutTo(leading.bytes);
    this.#records = records;
    this.#writeConfig(stringify(config));
    syncFolderNow(this.path);
    const warnings = damage === null ? kept.warnings : [...kept.warnings, damage];
    return { ...kept, warnings, notes: [] };
  }

  /** The configuration of an earlier generation G stays as config.G.yaml. */
  #writeConfig(text: string): void {
    const file = join(this.path, CONFIG);
    const former = textOrNull(file);
    if (former === text) return;
    try {
      if (former !== null && this.lastGeneration > 0) {
        replaceFile(join(this.path, `config.${this.lastGeneration}.yaml`), former);
      }
      replaceFile(file, text);
      syncFolderNow(this.path);
    } catch (error) {
      throw writeFailure(file, error);
    }
  }

  /** Releases the lock. If the run never began, a folder that was made for it goes. */
  release(): void {
    this.#unlock();
    if (this.#records === null) removeEmpty(this.#made);
    else for (const file of Object.values(this.#records)) file.close();
  }
}

/** The last step whose records stay: those of a run that ended before its first checkpoint are not of this one. */
export function recordedStep({ own, step }: Pick<ResolvedRun, 'own' | 'step'>): number {
  return own ? step : 0;
}

/** What becomes of records of later steps than the one from which the run goes on. */
function replacedRecords(last: number, recorded: number): string[] {
  if (last <= recorded) return [];
  const which = `${stepsText(recorded + 1, last)}, which this folder recorded,`;
  const isOne = last === recorded + 1;
  const replaced = isOne ? 'its record is replaced' : 'their records are replaced';
  return [
    recorded === 0
      ? `${which} ${isOne ? 'is' : 'are'} in no checkpoint of this run: it begins at its first step, and ${replaced}`
      : `${which} came after the checkpoint: ${isOne ? 'it is' : 'they are'} trained again, and ${replaced}`,
  ];
}

/** Writes a file under another name first, so that a kill leaves the old one or the new one. */
function replaceFile(path: string, text: string): void {
  const next = `${path}.new`;
  rmSync(next, { force: true });
  // What has come in between, such as a symbolic link, is not written through.
  writeFileSync(next, text, { flag: 'wx' });
  renameSync(next, path);
}

/** Removes folders from the innermost on, as long as they are empty. */
function removeEmpty(folders: readonly string[]): void {
  try {
    for (const folder of folders.toReversed()) rmdirSync(folder);
  } catch {
    // Somebody has put something there.
  }
}

/** A worker of a generation, as the journal has it. */
export interface RecordedPlace {
  id: string;
  pid: number;
  host: string;
  /** Absent in journals of earlier versions. */
  machine?: string;
  /** Where it listens for workers of the same machine, as long as it lives. */
  localAddress?: string;
}

interface JournalRecord {
  /** 0: none. */
  lastGeneration: number;
  /** Generations that were formed after a fault, or when the run was resumed. */
  restarts: number;
  /** The workers of the generation that formed last, by rank; empty: none did. */
  workers: readonly RecordedPlace[];
  /** What the bits of their sums depend on; null: an earlier version wrote the journal. */
  arithmetic: string | null;
  /** With how many of them the run goes on. */
  minWorkers: number;
  /** How often a coordinator has taken the place of one that had died. */
  coordinatorRestarts: number;
  /** When the run was first started; null: not known. */
  started: number | null;
  /** The segments of the sample plan; null: an earlier version wrote the journal. */
  segments: readonly Segment[] | null;
  /** What metrics.jsonl added up to when the journal had its last line of it; null: it has none. */
  metrics: RecordedTotals | null;
}

/** What a run's journal says. */
export function journalOf(runDir: string): JournalRecord {
  let lastGeneration = 0;
  let restarts = 0;
  let workers: readonly RecordedPlace[] = [];
  let arithmetic: string | null = null;
  let minWorkers = 0;
  let started: number | null = null;
  let coordinatorRestarts = 0;
  let segments: JournalRecord['segments'] = null;
  let metrics: RecordedTotals | null = null;
  leadingLines(join(runDir, JOURNAL), (line) => {
    const { generation, workers: members, started_unix_seconds: first, unix_seconds: written } = line;
    if (typeof generation === 'number') lastGeneration = Math.max(lastGeneration, generation);
    if (Array.isArray(members)) {
      // Journals of earlier versions do not say it: every generation after the first was one.
      if (line.restart === true || (line.restart === undefined && lastGeneration > 1)) restarts++;
      workers = members as RecordedPlace[];
      arithmetic = typeof line.arithmetic === 'string' ? line.arithmetic : null;
      // Journals of earlier versions do not say it: all were needed.
      minWorkers = typeof line.min_workers === 'number' ? line.min_workers : members.length;
    }
    if (typeof line.coordinator_restarts === 'number') coordinatorRestarts = line.coordinator_restarts;
    if (line.segments !== undefined) segments = segmentsSchema.safeParse(line.segments).data ?? null;
    metrics = totalsIn(line) ?? metrics;
    // Journals of earlier versions do not say it; their first line was written when the workers were ready.
    const at = first ?? written;
    if (started === null && typeof at === 'number') started = at;
    return true;
  });
  const last = { lastGeneration, workers, arithmetic, minWorkers };
  return { ...last, restarts, coordinatorRestarts, started, segments, metrics };
}
