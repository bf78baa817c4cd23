/** A coordinator that has taken the place of one that has died, and its workers, which return. */
import type { Action, Former, Settings } from '../../src/coordinator/events.js';
import { Ledger } from '../../src/coordinator/ledger.js';
import { HEARTBEAT, prepared, ready, SAYS_NOTHING, Script } from './rule-script.js';

/** What step 5 gives, by all slots. */
const FIFTH = new Ledger(4).enter(5, [prepared(5, [0]), prepared(5, [1, 2])]);
export const DIGEST = 'digest' in FIFTH ? FIFTH.digest : '';

/** What the one before has left. */
const former: Former = {
  members: ['a', 'b'],
  arithmetic: 'isa avx2',
  committed: 5,
  validated: (upTo) => (upTo >= 3 ? 3 : 0),
  digestOf: (step) => (step === 5 ? DIGEST : null),
};

export class Returning extends Script {
  constructor(changes: Partial<Former> = {}, settings: Partial<Settings> = {}) {
    super({ resumePath: 'step-2', resumeStep: 2, former: { ...former, ...changes }, ...settings });
  }

  joins(id: string, newest: number): Action[] {
    const addresses = { dataAddress: `${id}:1`, localAddress: id, machine: 'm', sharedMemory: '' };
    return this.event({ type: 'joined', id, host: 'h', pid: 1, newest, ...addresses, ...SAYS_NOTHING });
  }

  /** It joins, and stands by with the state of the run after this step. */
  returns(id: string, newest = 7, step = 5): Action[] {
    this.joins(id, newest);
    const standby = {
      withoutRunFolder: false,
      arithmetic: 'isa avx2',
      held: { step },
      shares: false,
    };
    return this.event({ type: 'standby', id, standby });
  }

  /** All say what they hold. Returns what they are told. */
  formed(held: Record<string, number | null>): Action[] {
    return Object.entries(held).flatMap(([id, step]) =>
      this.event({
        type: 'formed',
        id,
        formed: { device: null, sharing: null, held: step === null ? null : { step } },
      }),
    );
  }

  /** The time passes, with ticks and heartbeats. */
  until(time: number, ...ids: string[]): Action[] {
    const actions: Action[] = [];
    for (; this.now < time; this.now += 250) {
      for (const id of ids) this.event({ type: 'heartbeat', id, heartbeat: HEARTBEAT });
      actions.push(...this.event({ type: 'tick' }));
    }
    return [...actions, ...this.event({ type: 'tick' })];
  }

  ready(step: number, ...ids: string[]): Action[] {
    return ids.flatMap((id) => this.event({ type: 'ready', id, ready: ready({ step }) }));
  }

  /** Both workers return with step 5, and are ready. Returns what they are told then. */
  bothReady(): Action[] {
    this.returns('a');
    this.returns('b');
    this.formed({ a: 5, b: 5 });
    return this.ready(5, 'a', 'b');
  }
}

export const started = (actions: Action[]) => actions.find((action) => action.type === 'started');
