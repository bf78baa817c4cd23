/**
 * The rule of a run under thousands of seeded schedules: workers of different speed that die, fall silent and
 * are stopped, disks that are slow or fail, and states that differ.
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
  /** Steps whose checkpoint was requested, published, and missed; and those of which all states were reported. */
  requested: number[];
  published: number[];
  missed: { step: number; reason: string }[];
  applied: Map<number, number>;
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
    welcome: { configJson: '{}', workers, runDir: 'runs/x', planJson: '[]' },
    totalSlots: workers + below(4),
    steps: 1 + below(8),
    checkpointEvery: below(4),
    validateEvery: below(3),
    configHash: 'c',
    lastGeneration: below(3),
    resumePath: '',
    resumeStep: 0,
    supervised: random() < 0.5,
  };
  const actors: Actor[] = Array.from({ length: workers }, (_, i) => ({
    id: `w${i}`,
    fate: random() < 0.15 ? (random() < 0.5 ? 'dies' : 'silent') : 'well',
    doom: 200 + below(4_000),
    slots: [],
    step: 0,
  }));
  const state = new RunState(settings);
  const trace: Trace = {
    ...{ commits: [], requested: [], published: [], missed: [], applied: new Map() },
    ...{ ends: [], journalled: 0, at: 0 },
  };
  /** A disk that takes up to this long for a checkpoint, and the share of those that it refuses. */
  const disk = { ms: below(2) * 3_000, refuses: random() < 0.2 ? 0.3 : 0 };
  /** The step from which on the last worker's state is another one. */
  const differs = workers > 1 && random() < 0.1 ? 1 + below(8) : Number.POSITIVE_INFINITY;
  const queue: { at: number; order: number; run: () => void }[] = [];
  let now = 0;
  let order = 0;
  const later = (delay: number, run: () => void) => queue.push({ at: now + delay, order: order++, run });
  const dead = (actor: Actor) => actor.fate !== 'well' && now >= actor.doom;
  const happen = (event: Event) => {
    for (const action of state.handle(event, now)) act(action);
  };
  /** Messages of a worker arrive in the order in which it sent them. */
  const arrived = new Map<Actor, number>();
  const say = (
    actor: Actor,
    event: Event,
    { longest = 300, before = () => {} }: { longest?: number; before?: () => void } = {},
  ) => {
    const at = Math.max(now + 1 + below(longest), arrived.get(actor) ?? 0);
    arrived.set(actor, at);
    later(at - now, () => {
      if (dead(actor)) return;
      before();
      happen(event);
    });
  };

  function act(action: Action): void {
    if (action.type === 'journal') trace.journalled++;
    if (action.type === 'end') trace.ends.push(action);
    if (action.type === 'commit') {
      expect(action.prepared.flatMap(({ slots }) => slots.map(({ slot }) => slot))).toEqual(
        Array.from({ length: settings.totalSlots }, (_, slot) => slot),
      );
      trace.commits.push(action.step);
    }
    if (action.type === 'notSaved') trace.missed.push(action.missed);
    if (action.type === 'publish') publish(action.saved.step);
    if (action.type !== 'send') return;
    // A message in flight does not overtake: every worker gets it at its own time, in order.
    for (const actor of actors)
      if (action.to === null || action.to === actor.id) answer(actor, action.message);
  }

  /** Publishes one checkpoint after another. */
  let publisherFree = 0;
  function publish(step: number): void {
    expect(trace.applied.get(step), 'all workers have applied the step').toBe(workers);
    const fault = { code: 'ERR_CHECKPOINT_WRITE', message: 'refused', hint: null } as const;
    const refused = random() < disk.refuses;
    publisherFree = Math.max(publisherFree, now) + 1 + below(100);
    later(publisherFree - now, () => {
      if (!refused) trace.published.push(step);
      happen(
        refused
          ? { type: 'notPublished', step, fault }
          : { type: 'published', checkpoint: { step, path: 'x', seconds: 1, stallSeconds: 0, bytes: 1 } },
      );
    });
  }

  /** What a worker says of a checkpoint; rank 0 says it when its disk has taken those before, too. */
  let diskFree = 0;
  function save(actor: Actor, step: number): void {
    const { id } = actor;
    const stateHash = actor === actors.at(-1) && step >= differs ? 'other' : 'same';
    const before = () => trace.applied.set(step, (trace.applied.get(step) ?? 0) + 1);
    say(actor, { type: 'applied', id, applied: { step, stateHash } }, { before });
    if (actor.slots[0] !== 0) return;
    trace.requested.push(step);
    const failure = { code: 'ERR_CHECKPOINT_WRITE', message: 'refused', hint: '' };
    const answer: Event =
      random() < disk.refuses
        ? { type: 'notSaved', id, notSaved: { step, failure } }
        : { type: 'saved', id, saved: { step, folder: 'x', seconds: 1, stallSeconds: 0, bytes: 1 } };
    diskFree = Math.max(diskFree, now) + below(disk.ms + 1);
    later(diskFree - now, () => {
      if (!dead(actor)) happen(answer);
    });
  }

  function answer(actor: Actor, message: Extract<Action, { type: 'send' }>['message']): void {
    const { id } = actor;
    // Engines take their time to build.
    if (message.welcome) say(actor, { type: 'standby', id, standby: {} }, { longest: 3_000 });
    if (message.form) {
      const { firstSlot = 0, endSlot = 0 } = message.form.members?.[Number(message.form.rank)] ?? {};
      actor.slots = Array.from({ length: endSlot - firstSlot }, (_, i) => firstSlot + i);
      say(actor, { type: 'formed', id, formed: { device: null } });
    }
    if (message.sync) say(actor, { type: 'ready', id, ready: { step: 0, configHash: 'c' } as Ready });
    if (message.start) prepare(actor, 1);
    if (message.commit) {
      if (message.commit.checkpoint) save(actor, actor.step);
      if (!message.commit.stop) prepare(actor, actor.step + 1);
      else {
        const settled = actor.slots[0] === 0 ? Math.max(0, diskFree - now) : 0;
        later(settled, () => say(actor, { type: 'finished', id, finished: {} }));
      }
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
    if (actor.fate === 'dies') {
      later(actor.doom, () => happen({ type: 'lost', id: actor.id, reason: 'reset' }));
      // The launcher's word may come before or after, or not at all.
      const exit = { code: null, signal: 'SIGKILL', outOfMemory: false } as const;
      if (settings.supervised && random() < 0.9) {
        later(Math.max(0, actor.doom - 100 + below(1_000)), () =>
          happen({ type: 'exited', id: actor.id, exit }),
        );
      }
    }
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
  const outcomes = { done: 0, stopped: 0, lost: 0, mismatch: 0, unsaved: 0 };
  const missed = { failed: 0, skipped: 0 };
  for (let seed = 1; seed <= SCHEDULES; seed++) {
    const { trace, settings, fates, stopped } = simulate(seed);
    const name = `seed ${seed}`;
    expect(trace.commits, name).toEqual(trace.commits.map((_, i) => i + 1));
    expect(trace.ends, name).toHaveLength(1);
    const [end] = trace.ends as [Trace['ends'][number]];
    for (const { reason } of trace.missed) missed[reason as keyof typeof missed]++;
    // In order, and none that was not requested.
    expect(trace.published, name).toEqual(trace.requested.filter((step) => trace.published.includes(step)));
    if (end.exitCode !== 1) expect(trace.published.at(-1), name).toBe(trace.commits.at(-1));
    if (end.fault?.code === 'ERR_STATE_MISMATCH') {
      outcomes.mismatch++;
    } else if (end.fault?.code === 'ERR_CHECKPOINT_WRITE') {
      expect(trace.published, name).not.toContain(trace.commits.at(-1));
      outcomes.unsaved++;
    } else if (end.exitCode === 0) {
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
  for (const count of Object.values({ ...outcomes, ...missed })) expect(count).toBeGreaterThan(30);
});
