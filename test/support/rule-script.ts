/** The rule of a run of two workers, and what they say to it. */
import { expect } from 'vitest';
import type { Heartbeat, Prepared, Ready } from '../../src/rpc/proto.js';
import type { Processor } from '../../src/rule/arithmetic.js';
import type { Action, Event, Settings } from '../../src/rule/events.js';
import { RunState } from '../../src/rule/rule.js';

export const SETTINGS: Settings = {
  workers: 2,
  minWorkers: 1,
  maxWorkers: 2,
  patienceMs: 60_000,
  welcome: { configJson: '{}', workers: 2, runDir: 'runs/x', planJson: '[]', patienceSeconds: 60, isa: '' },
  onGpus: false,
  mustShare: false,
  totalSlots: 3,
  steps: 6,
  checkpointEvery: 2,
  validateEvery: 3,
  configHash: 'config',
  lastGeneration: 4,
  resumePath: '',
  resumeStep: 0,
};

/** What a worker sends that does not say with which instruction sets it can compute. */
export const SAYS_NOTHING: Processor = { instructionSets: [], onlyIsa: '' };

/** The heartbeat of a worker that has nothing to do. */
export const HEARTBEAT: Heartbeat = { validated: 0, stage: 'IDLE', ticks: 0 };

export const ready = (changes: Partial<Ready> = {}): Ready => ({
  step: 0,
  configHash: 'config',
  datasetHash: 'data',
  stateHash: 'state',
  parameters: 1,
  flopsPerSlot: 1,
  precision: 'fp32',
  validation: [],
  device: '',
  matmulPeak: 0,
  ...changes,
});

export function prepared(step: number, slots: number[], changes: Partial<Prepared> = {}): Prepared {
  return {
    step,
    slots: slots.map((slot) => ({
      slot,
      losses: [slot, 1],
      samples: [slot * 2, slot * 2 + 1],
      skipped: [],
      times: [0.25, 0.75],
    })),
    gradientNorm: 1.5,
    nonFinite: [],
    attention: [],
    gradientNorms: {},
    numbers: {},
    ...changes,
  };
}

/** A run whose clock the test turns. */
export class Script {
  readonly state: RunState;
  now = 0;

  constructor(changes: Partial<Settings> = {}) {
    this.state = new RunState({ ...SETTINGS, ...changes });
    this.event({ type: 'listening' });
  }

  event(event: Event): Action[] {
    return gathered(this.state.handle(event, this.now), () =>
      this.state.handle({ type: 'gathered' }, this.now),
    );
  }

  /** @param instructionSets Those of its processor; none: it does not say. */
  join(id: string, instructionSets: string[] = [], onlyIsa = '', ownAccord = false): Action[] {
    const addresses = { dataAddress: `${id}:1`, localAddress: id, machine: 'm', sharedMemory: `m/${id}` };
    const member = { id, host: 'h', pid: 100 + id.length, ...addresses, ownAccord };
    return this.event({ type: 'joined', ...member, instructionSets, onlyIsa });
  }

  standby(id: string, withoutRunFolder = false, arithmetic = 'isa avx2'): Action[] {
    const standby = { withoutRunFolder, arithmetic, held: null, shares: false };
    return this.event({ type: 'standby', id, standby });
  }

  /** Both have joined and built: b before a, and yet a has rank 0. Returns the actions of the last event. */
  forming(): Action[] {
    this.join('b');
    this.join('a');
    this.standby('b');
    return this.standby('a');
  }

  /** Joined, formed and ready. */
  running(step = 0): this {
    this.forming();
    for (const id of ['a', 'b'])
      this.event({ type: 'formed', id, formed: { device: null, sharing: null, held: null } });
    for (const id of ['a', 'b']) this.event({ type: 'ready', id, ready: ready({ step }) });
    return this;
  }

  /** Both have validated if that was ordered, and prepare a step; slots 0 | 1, 2. */
  step(step: number): Action[] {
    for (const id of ['a', 'b']) this.validated(id, step - 1);
    const none = this.event({ type: 'prepared', id: 'b', prepared: prepared(step, [1, 2]) });
    expect(none).toEqual([]);
    return this.event({ type: 'prepared', id: 'a', prepared: prepared(step, [0]) });
  }

  applied(id: string, step: number, stateHash = 'same'): Action[] {
    return this.event({ type: 'applied', id, applied: { step, stateHash } });
  }

  /** Rank 0 has staged the checkpoint of the step. */
  saved(step: number, id = 'a'): Action[] {
    return this.event({ type: 'saved', id, saved: staged(step) });
  }

  notSaved(step: number): Action[] {
    const failure = { code: 'ERR_CHECKPOINT_WRITE', message: 'full', hint: 'Free some space' };
    return this.event({ type: 'notSaved', id: 'a', notSaved: { step, failure } });
  }

  /** All workers apply the step, and validate it if that was ordered; rank 0 stages its checkpoint, which is published. */
  checkpoint(step: number): Action[] {
    for (const id of ['a', 'b']) this.validated(id, step);
    this.applied('b', step);
    this.applied('a', step);
    expect(this.saved(step)).toEqual([{ type: 'publish', saved: staged(step) }]);
    return this.published(step);
  }

  published(step: number): Action[] {
    const checkpoint = { step, path: `step-${step}`, seconds: 1, stallSeconds: 0, bytes: 1 };
    const [saved, ...others] = this.event({ type: 'published', checkpoint });
    expect(saved).toEqual({ type: 'saved', checkpoint });
    return others;
  }

  validated(id: string, step: number): Action[] {
    const part = { step, losses: [], seconds: 1, abandoned: false, emaDistance: 0 };
    return this.event({ type: 'validated', id, validated: part });
  }

  /** The worker has followed the orders after the last step. */
  finished(id: string, step: number): Action[] {
    this.applied(id, step);
    this.validated(id, step);
    return this.event({ type: 'finished', id, finished: {} });
  }

  finish(step: number): Action[] {
    this.finished('a', step);
    return this.finished('b', step);
  }
}

export const staged = (step: number) => ({
  step,
  folder: `.partial-${step}`,
  seconds: 1,
  stallSeconds: 0,
  bytes: 1,
});

/** Nothing else is lost in the moment for which losses are gathered. */
export function gathered(actions: Action[], gather: () => Action[]): Action[] {
  const others = actions.filter(({ type }) => type !== 'gather');
  return others.length < actions.length ? [...others, ...gather()] : actions;
}

export const end = (actions: Action[]) => actions.find((action) => action.type === 'end');
export const sent = (actions: Action[]) =>
  actions.flatMap((action) => (action.type === 'send' ? [action] : []));
export const reason = (actions: Action[]) => `${end(actions)?.fault?.code}: ${end(actions)?.fault?.message}`;

export const killed = (signal: NodeJS.Signals) => ({ code: null, signal, outOfMemory: false });
export const ended = (code: number) => ({ code, signal: null, outOfMemory: false });
