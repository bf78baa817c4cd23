/** Events of a run and the actions that follow from them: the types of rule.ts. */
import type { Fault } from '../fault.js';
import type {
  FromCoordinator,
  Offered,
  Prepared,
  Ready,
  Saved,
  Validated,
  Welcome,
  WorkerMessage,
} from '../rpc/proto.js';
import type { Exit } from '../signals.js';
import type { CheckpointRecord, MissedCheckpoint } from '../telemetry/record.js';
import type { Processor } from './arithmetic.js';

/** docs/guide/training.md has a sentence on each. */
export const PHASES = [
  'INIT',
  'JOINING',
  'FORMING',
  'SYNCING',
  'RUNNING',
  'DRAINING',
  'CHECKPOINTING',
  'DONE',
  'STOPPED',
  'FAILED',
] as const;
export type Phase = (typeof PHASES)[number];

/** The phases in which a run is over. */
export const ENDED: ReadonlySet<string> = new Set<Phase>(['DONE', 'STOPPED', 'FAILED']);

export interface Settings {
  /** The workers that the first generation waits for. */
  workers: number;
  /** A generation has at least so many workers. */
  minWorkers: number;
  /** More do not join. Those without a slot stay on standby. */
  maxWorkers: number;
  /** How long the run waits for others when fewer than `minWorkers` are left. */
  patienceMs: number;
  /** Sent to every worker that joins. */
  welcome: Welcome;
  /** Whether GPUs compute. */
  onGpus: boolean;
  /** The instruction sets that all workers of the launcher have, the best first; null: all are alike, or nobody knows. */
  instructionSets?: readonly string[] | null;
  /** Whether the workers must share memory: exchange is `shared`. */
  mustShare: boolean;
  /** Slots of a step. */
  totalSlots: number;
  /** Steps of the whole run. */
  steps: number;
  /** Steps between two checkpoints; 0 = only at the end. */
  checkpointEvery: number;
  /** Steps between two validations; 0 = never. */
  validateEvery: number;
  configHash: string;
  /** The last generation in the journal when this process started. */
  lastGeneration: number;
  /** Folder of the checkpoint to resume from; '' = none. */
  resumePath: string;
  /** Step of that checkpoint; 0 = none. Below `steps`. */
  resumeStep: number;
  /** What the coordinator before this one has left; absent where this one begins or resumes a run. */
  former?: Former;
}

/** A coordinator that has died, as its records tell of it. Its workers may live, and hold a newer state than files. */
export interface Former {
  /** The workers that are waited for, by their ids: those of the generation that started last, if they may return. */
  members: readonly string[];
  /** What the bits of their sums depend on; null: it does not matter, or is not known. */
  arithmetic: string | null;
  /** The last step in the ledger. */
  committed: number;
  /** The last step, up to this one, whose validation was recorded; 0: none was. */
  validated: (upTo: number) => number;
  /** The digest of what a committed step gave; null: the ledger does not have it. */
  digestOf: (step: number) => string | null;
}

/** A worker that the launcher starts. */
export interface ExpectedWorker {
  id: string;
  /** By which the launcher's messages name it: "worker 1 on b". */
  name: string;
  host: string;
}

/** A worker that has joined. */
export interface Member {
  id: string;
  host: string;
  pid: number;
  /** Its address for other machines; '' = none. */
  dataAddress: string;
  /** Its address for workers of the same machine. */
  localAddress: string;
  machine: string;
  /** Address of its shared memory for other workers of the same machine; '' = none. */
  sharedMemory: string;
  /** Whether no launcher has started it, so that none tells of its end or starts it again. */
  ownAccord?: boolean;
}

/** What a member is in a generation: its rank, and its slots [firstSlot, endSlot). */
export interface Place extends Member {
  rank: number;
  firstSlot: number;
  endSlot: number;
}

type WorkerMessageKind = Exclude<NonNullable<WorkerMessage['message']>, 'join'>;

/** A message of a worker that has joined: `{ type: 'prepared', id, prepared }`. */
export type MessageEvent = {
  [K in WorkerMessageKind]: { type: K; id: string } & Record<K, NonNullable<WorkerMessage[K]>>;
}[WorkerMessageKind];

/** Time for workers that were cut off with steps that nobody else holds to come back to a run that is asked to stop. */
export const STOP_MS = 30_000;

/** The workers of a machine that is gone are lost within this time of each other. */
export const GATHER_MS = 5;

/** Messages that belong to the run: they count in whichever generation they were sent. */
const OF_THE_RUN: ReadonlySet<WorkerMessageKind> = new Set([
  ...(['standby', 'heartbeat', 'leave', 'failure'] as const),
  ...(['saved', 'notSaved', 'saving', 'offered'] as const),
]);

/** Whether a message of a generation counts in the current one. */
export function isCurrent({ type }: MessageEvent, generation: number, current: number): boolean {
  return generation === current || OF_THE_RUN.has(type);
}

export type Event =
  | MessageEvent
  | { type: 'listening' }
  /** A launcher tells which workers it starts. */
  | { type: 'expected'; workers: readonly ExpectedWorker[] }
  /** A worker joins; `newest` is the newest generation that it has heard of. */
  | ({ type: 'joined'; newest?: number } & Processor & Member)
  /** The worker's session ended. */
  | { type: 'lost'; id: string; reason: string }
  /** A launcher reports that the worker's process has ended, perhaps before it joined. */
  | {
      type: 'exited';
      id: string;
      /** That process; null: it is of another host. */
      pid?: number | null;
      exit: Exit;
      /** Whether the launcher will start the worker again. */
      again: boolean;
      /** Whether only the connection to its host is known to have ended: the process may live, with what it holds. */
      mayLive?: boolean;
    }
  /** A launcher reports that a worker of the launch before has ended, in whose place it starts no other. */
  | { type: 'forgotten'; id: string }
  /** The launcher reports that the worker had ended for good before this coordinator was started. */
  | { type: 'gone'; id: string }
  /** A signal reached the coordinator, or the launcher has ended. */
  | { type: 'stop'; exitCode: number; reason: string }
  /** The staged checkpoint of the step has its final name. */
  | { type: 'published'; checkpoint: CheckpointRecord }
  /** It could not get it, and is removed. */
  | { type: 'notPublished'; step: number; fault: Fault }
  /** The state for a checkpoint did not come whole: nothing of it is left, and the worker knows. */
  | { type: 'notFetched'; fetch: number; fault: Fault }
  /** An action could not be carried out. */
  | { type: 'actionFailed'; fault: Fault }
  /** The moment is over for which the caller was asked to gather losses. */
  | { type: 'gathered' }
  | { type: 'tick' };

export type Action =
  /** Send to these workers, or to all (null). */
  | { type: 'send'; to: readonly string[] | null; message: FromCoordinator }
  /** Refuse the worker and end its session. */
  | { type: 'refuse'; id: string; message: string }
  /**
   * The worker is not a member any more: end its session, if there is one. It may join again if it is told so.
   * `isSilent`: nothing was heard of it for too long.
   */
  | { type: 'cut'; id: string; reason: string; mayReturn?: boolean; isSilent?: boolean }
  /** Tell the user; as a warning what costs time or workers. */
  | { type: 'note' | 'warn'; message: string }
  /** Others may be lost, or come, with the one that is lost: say `gathered` in a moment (GATHER_MS). */
  | { type: 'gather' }
  /** Write the new generation to the journal. */
  | {
      type: 'journal';
      generation: number;
      workers: readonly Place[];
      step: number;
      /** It goes on after a fault, or where another process has ended: not with workers that come or leave in order. */
      isRestart: boolean;
      /** What the bits of its sums depend on. */
      arithmetic: string;
    }
  /** All workers of the generation have the same state; its first step begins. */
  | {
      type: 'started';
      firstStep: number;
      ready: readonly Ready[];
      /**
       * How many steps are run again that the former coordinator had committed; null: there was none, or no worker
       * has kept its state.
       */
      again: number | null;
    }
  /** The step is committed: write it to the ledger. */
  | { type: 'commit'; step: number; prepared: readonly Prepared[]; digest: string }
  /** Record the step's metrics. */
  | {
      type: 'record';
      step: number;
      prepared: readonly Prepared[];
      /** The members that computed it, by rank. */
      places: readonly Place[];
      validate: boolean;
    }
  /** Sync ledger, metrics and journal to disk, because a checkpoint follows. */
  | { type: 'syncRecords'; step: number }
  | { type: 'validation'; step: number; parts: readonly Validated[] }
  /** The member offers its state for a checkpoint: fetch and write it, and say so in the member's place. */
  | { type: 'fetch'; member: Member; offered: Offered; fetch: number }
  /** All workers hold the state that is staged: give the checkpoint its final name, then say how it went. */
  | { type: 'publish'; saved: Saved }
  /** The worker that wrote a checkpoint is gone: remove what is staged, except these folders. */
  | { type: 'sweep'; keep: readonly string[] }
  /** The checkpoint can be resumed from. */
  | { type: 'saved'; checkpoint: CheckpointRecord }
  /** The checkpoint of the step failed or was left out, and the run goes on. */
  | { type: 'notSaved'; missed: MissedCheckpoint }
  /**
   * The run was asked to stop while it trains: the step is finished and a checkpoint written. First it waits up to
   * `ms` for the workers of these names to come back, because only they hold the steps after the last checkpoint.
   */
  | { type: 'stopping'; reason: string; awaited: readonly string[]; ms: number }
  /** The run is over: as it should be, by a signal, or by a fault. */
  | { type: 'end'; exitCode: number; reason: string; fault: Fault | null };
