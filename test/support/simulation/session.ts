import type { Arrived } from './network.js';
import type { Worker } from './worker.js';

/** The connection of one process with the coordinator. */
export interface Session {
  worker: Worker;
  open: boolean;
  /** The coordinator has ended it, and the process will end, too. */
  cut: boolean;
  /** The coordinator is dead, but what it has sent still arrives. */
  lingers: boolean;
  arrived: Arrived;
  /** How many times the worker was welcomed, which of these has come last, and with which instruction set. */
  welcomes: { sent: number; taken: number; isa: string };
}

export function sessionOf(worker: Worker, open: boolean): Session {
  const none = { arrived: { up: 0, down: 0 }, welcomes: { sent: 0, taken: 0, isa: '' } };
  return { worker, open, cut: false, lingers: false, ...none };
}
