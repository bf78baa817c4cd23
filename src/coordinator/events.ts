/** What happens to a run, and what it does about it: the vocabulary of state.ts. */

import type { ErrorCode } from '../errors.js';
import type { FromCoordinator, Prepared, Ready, Saved, Validated } from '../rpc/proto.js';

export type Phase =
  | 'INIT'
  | 'JOINING'
  | 'FORMING'
  | 'SYNCING'
  | 'RUNNING'
  | 'DRAINING'
  | 'CHECKPOINTING'
  | 'DONE'
  | 'FAILED';

export interface Settings {
  workers: number;
  /** V, slots of a step. */
  totalSlots: number;
  /** Steps of the whole run. */
  steps: number;
  /** Steps between two checkpoints, validations; 0 = never (a checkpoint is always made at the end). */
  checkpointEvery: number;
  validateEvery: number;
  configHash: string;
  /** Generation of the journal before this process. */
  lastGeneration: number;
  /** Folder of the checkpoint to start from and its step; '' and 0: initialise. */
  resumePath: string;
  resumeStep: number;
}

/** A worker that has joined. */
export interface Worker {
  id: string;
  host: string;
  pid: number;
  dataAddress: string;
  /** Where others of its machine find its memory; '' where they cannot. */
  sharedMemory: string;
  /** -1 before the generation is formed. */
  rank: number;
  /** Slots [firstSlot, endSlot). */
  firstSlot: number;
  endSlot: number;
}

export type Event =
  | { type: 'listening' }
  | ({ type: 'joined' } & Omit<Worker, 'rank' | 'firstSlot' | 'endSlot'>)
  /** With what the others must know of its device (Formed in proto/cluster.proto). */
  | { type: 'formed'; id: string; device: string }
  | { type: 'ready'; id: string; ready: Ready }
  | { type: 'prepared'; id: string; prepared: Prepared }
  | { type: 'applied'; id: string; step: number; stateHash: string }
  | { type: 'validated'; id: string; validated: Validated }
  | { type: 'saved'; id: string; saved: Saved }
  | { type: 'finished'; id: string }
  | { type: 'heartbeat'; id: string }
  /** The stream ended, or the worker told of an error. */
  | { type: 'lost'; id: string; reason: string }
  /** The launcher saw the worker's process end, perhaps before it joined. */
  | { type: 'exited'; id: string; exit: string }
  | { type: 'failure'; id: string; code: string; message: string }
  /** A signal, or a worker that was told to end. */
  | { type: 'stop'; exitCode: number; reason: string }
  /** An action could not be carried out. */
  | { type: 'actionFailed'; code: string; message: string }
  | { type: 'tick' };

export type Action =
  /** To one worker, or to all. */
  | { type: 'send'; to: string | null; message: FromCoordinator }
  /** The worker belongs to the run: tell it the config and the tokens. */
  | { type: 'welcome'; id: string }
  /** End this worker's session: it does not belong here. */
  | { type: 'refuse'; id: string; code: ErrorCode; message: string }
  | { type: 'journal'; generation: number; workers: readonly Worker[]; step: number }
  /** Everybody holds the same state; the first step begins. */
  | { type: 'started'; firstStep: number; ready: readonly Ready[] }
  /** The step counts from here on: into the ledger with it. */
  | { type: 'commit'; step: number; prepared: readonly Prepared[] }
  /** What people want to see of the step. */
  | { type: 'record'; step: number; prepared: readonly Prepared[] }
  /** Everything up to the step on disk, because a checkpoint follows. */
  | { type: 'syncRecords'; step: number }
  | { type: 'validation'; step: number; parts: readonly Validated[] }
  | { type: 'saved'; saved: Saved }
  | { type: 'end'; phase: 'DONE' | 'FAILED'; exitCode: number; code: string | null; reason: string };
