/**
 * The rule of a run under thousands of seeded schedules: workers of different speed that die, fall silent and
 * are stopped.
 */
import { expect, test } from 'vitest';
import type { Action, Event, Settings } from '../../../src/coordinator/events.js';
import { RunState } from '../../../src/coordinator/state.js';
import type { Prepared, Ready } from '../../../src/rpc/proto.js';
import { generator } from '../../support/random.js';

const SCHEDULES = 3_000;

type Fate = 'well' | 'dies' | 'silent';

/** A worker that answers what it is told, after a delay, until its fate meets it. */
interface Actor {
  id: string;
  fate: Fate;
  /** Virtual time of its fate. */
  doom: number;
  slots: number[];
  /** The step that it computes; 0 before the first. */
  step: number;
}

interface Trace {
  commits: number[];
  ends: { exitCode: number; fault: { code: string } | null }[];
  journalled: number;
  at: number;
}

function simulate(seed: number): { trace: Trace; settings: Settings; fates: Fate[]; stopped: boolean } {
  const random = generator(seed);
  const below = (n: number) => Math.floor(random() * n);
  const workers = 1 + below(5);
  const settings: Settings = {
    workers,
    welcome: { configJson: '{}', workers, dataToken: 'secret', runDir: 'runs/x', planVersion: 2 },
    totalSlots: workers + below(4),
    steps: 1 + below(8),
    checkpointEvery: below(4),
    validateEvery: below(3),
    configHash: 'c',
    lastGeneration: below(3),
    resumePath: '',
    resumeStep: 0,
  };
  const actors: Actor[] = Array.from({ length: workers }, (_, i) => ({
    id: `w${i}`,
    fate: random() < 0.15 ? (random() < 0.5 ? 'dies' : 'silent') : 'well',
    doom: 200 + below(4_000),
    slots: [],
    step: 0,
  }));
  const state = new RunState(settings);
  const trace: Trace = { commits: [], ends: [], journalled: 0, at: 0 };
  const queue: { at: number; order: number; run: () => void }[] = [];
  let now = 0;
  let order = 0;
  const later = (delay: number, run: () => void) => queue.push({ at: now + delay, order: order++, run });
  const dead = (actor: Actor) => actor.fate !== 'well' && now >= actor.doom;
  const happen = (event: Event) => {
    for (const action of state.handle(event, now)) act(action);
  };
  const say = (actor: Actor, event: Event) =>
    later(1 + below(300), () => {
      if (!dead(actor)) happen(event);
    });

  function act(action: Action): void {
    if (action.type === 'journal') trace.journalled++;
    if (action.type === 'end') trace.ends.push(action);
    if (action.type === 'commit') {
      expect(action.prepared.flatMap(({ slots }) => slots.map(({ slot }) => slot))).toEqual(
        Array.from({ length: settings.totalSlots }, (_, slot) => slot),
      );
      trace.commits.push(action.step);
    }
    if (action.type !== 'send') return;
    // A message in flight does not overtake: every worker gets it at its own time, in order.
    for (const actor of actors)
      if (action.to === null || action.to === actor.id) answer(actor, action.message);
  }

  function answer(actor: Actor, message: Extract<Action, { type: 'send' }>['message']): void {
    const { id } = actor;
    if (message.form) {
      const { firstSlot = 0, endSlot = 0 } = message.form.members?.[Number(message.form.rank)] ?? {};
      actor.slots = Array.from({ length: endSlot - firstSlot }, (_, i) => firstSlot + i);
      say(actor, { type: 'formed', id, formed: { device: null } });
    }
    if (message.sync) say(actor, { type: 'ready', id, ready: { step: 0, configHash: 'c' } as Ready });
    if (message.start) prepare(actor, 1);
    if (message.commit) {
      if (message.commit.stop) say(actor, { type: 'finished', id, finished: {} });
      else prepare(actor, actor.step + 1);
    }
  }

  function prepare(actor: Actor, step: number): void {
    actor.step = step;
    const slots = actor.slots.map((slot) => ({ slot, losses: [1], samples: [slot] }));
    say(actor, {
      type: 'prepared',
      id: actor.id,
      prepared: { step, slots, gradientNorm: 1, nonFinite: [] } as unknown as Prepared,
    });
  }

  happen({ type: 'listening' });
  for (const actor of actors) {
    const addresses = { dataAddress: 'a', sharedMemory: '' };
    later(below(500), () => happen({ type: 'joined', id: actor.id, host: 'h', pid: 1, ...addresses }));
    for (let at = 250; at < 60_000; at += 250) {
      later(500 + at, () => {
        if (!dead(actor)) happen({ type: 'heartbeat', id: actor.id, heartbeat: {} });
      });
    }
    if (actor.fate === 'dies')
      later(actor.doom, () => happen({ type: 'lost', id: actor.id, reason: 'reset' }));
  }
  for (let at = 250; at < 90_000; at += 250) later(at, () => happen({ type: 'tick' }));
  const stopped = random() < 0.2;
  if (stopped) later(below(3_000), () => happen({ type: 'stop', exitCode: 143, reason: 'told' }));

  queue.sort((a, b) => a.at - b.at || a.order - b.order);
  while (queue.length > 0 && trace.ends.length === 0) {
    const next = queue.shift() as (typeof queue)[number];
    now = next.at;
    const before = queue.length;
    next.run();
    if (queue.length > before) queue.sort((a, b) => a.at - b.at || a.order - b.order);
  }
  trace.at = now;
  return { trace, settings, fates: actors.map(({ fate }) => fate), stopped };
}

test(`${SCHEDULES} schedules: every step is committed once and in order, and every run ends, as it should`, () => {
  const outcomes = { done: 0, stopped: 0, lost: 0 };
  for (let seed = 1; seed <= SCHEDULES; seed++) {
    const { trace, settings, fates, stopped } = simulate(seed);
    const name = `seed ${seed}`;
    expect(trace.commits, name).toEqual(trace.commits.map((_, i) => i + 1));
    expect(trace.ends, name).toHaveLength(1);
    const [end] = trace.ends as [Trace['ends'][number]];
    if (end.exitCode === 0) {
      expect(trace.commits, name).toHaveLength(settings.steps);
      outcomes.done++;
    } else if (end.exitCode === 143) {
      expect(stopped, name).toBe(true);
      outcomes.stopped++;
    } else {
      expect(end, name).toMatchObject({ exitCode: 1, fault: { code: 'ERR_WORKER_LOST' } });
      expect(fates.filter((fate) => fate !== 'well').length, name).toBeGreaterThan(0);
      // Death is known at once, silence within 3 s of training or 60 s of building.
      expect(trace.at, name).toBeLessThan(70_000);
      outcomes.lost++;
    }
  }
  for (const count of Object.values(outcomes)) expect(count).toBeGreaterThan(100);
});
