/** What the launcher and the coordinator of a run tell each other. */

import type { Presence } from '../coordinator/sessions.js';
import type { ExpectedWorker } from '../rule/events.js';
import type { Orphan } from '../run-folder/former.js';
import type { Exit } from '../signals.js';
import type { RelayMessage } from '../telemetry/relay.js';

/** A message from the coordinator to the launcher. */
export interface CoordinatorNotice extends RelayMessage {
  /** Workers may join: the credential of those of this machine, and workers that may come back by themselves. */
  listening?: { credential: string; orphans: readonly Orphan[] };
  /** It has taken a signal to stop, and tells the user what follows. */
  stopping?: true;
  /** A worker has joined, was told to end and has left, or was lost. */
  member?: { workerId: string; presence: Presence; pid: number };
}

/** A message from the launcher to the coordinator. */
export interface LauncherNotice {
  /** To a coordinator that waits: the run may begin, with these instruction sets, which all workers have. */
  begin?: { instructionSets: readonly string[] | null };
  /** To a coordinator that listens: the workers that the launcher starts. */
  expected?: readonly ExpectedWorker[];
  /**
   * A worker's process has ended, and is started again or not; `pid` is null for one of another host. Where `mayLive` is
   * set, only the connection to its host has ended, or nothing is heard of it.
   */
  exited?: { workerId: string; pid: number | null; exit: Exit; again: boolean; mayLive?: boolean };
  /** This worker of the launch before has ended, and no other is started in its place. */
  forgotten?: string;
  /** To a coordinator that was started again: this worker had ended for good before. */
  gone?: string;
  /** What the launch warns of, before the run began: the coordinator logs it, and sends it back to be shown. */
  warning?: string;
  /** A line that a worker printed: the coordinator logs it, and sends it back to be shown in its place. */
  output?: string;
}
