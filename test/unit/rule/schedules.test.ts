/**
 * The rule of a run under thousands of seeded schedules: workers of different speed that die, freeze, leave,
 * join and start again, messages that are lost, late, doubled and reordered, disks that are slow or fail, and
 * states that differ. What must hold at every moment is in test/support/simulation/witness.ts.
 */
import { expect, test } from 'vitest';
import { STOP_MS } from '../../../src/rule/events.js';
import { STRANGE } from '../../support/simulation/memory.js';
import { World } from '../../support/simulation/world.js';

/** `npm run soak -- --simulated` runs more, from another first seed. */
const SCHEDULES = Number(process.env.SOAK_SCHEDULES ?? 10_000);
const FIRST = Number(process.env.SOAK_FIRST ?? 1);

/**
 * Time from the last fault to the end of a run that has started: 3 s of silence, building, and the rest of the
 * steps, each saved and validated. At its start, and where too few workers are left, a run waits for others first.
 */
const LIMIT_MS = { started: 40_000, waiting: 80_000 };

/** What a run came to; throws where that is not what should have become of it. */
function outcomeOf(world: World): string {
  const { witness, settings } = world;
  const { end } = world.coordinator;
  if (end === null) throw new Error('the run did not end');
  const code = end.fault?.code;
  if (code === 'ERR_JOIN_TIMEOUT' && world.processes.wasShort) return 'never complete';
  if (code === 'ERR_WORKER_LOST' && world.processes.wasShort) return 'too few';
  if (code === 'ERR_WORKER_LOST' && world.strays && end.reason.includes(STRANGE)) return 'too few';
  // Those are left that cannot share memory with the ones that are gone.
  if (code === 'ERR_SHARED_MEMORY' && world.unable && world.shares) return 'too few';
  if (code === 'ERR_STATE_MISMATCH' && world.differs) return 'mismatch';
  if (code === 'ERR_CHECKPOINT_WRITE' && world.disk.refuses) return 'unsaved';
  if (code !== undefined) throw new Error(`the run failed: ${code} ${end.reason}`);
  const { committed, published } = witness;
  if (end.exitCode === 0 && committed !== settings.steps) throw new Error(`done after step ${committed}`);
  // Where nobody held the state any more, a run that is asked to stop has nothing new to save.
  if (committed > 0 && published.at(-1) !== committed && !world.deserted) {
    throw new Error(`the last checkpoint is of ${published.at(-1)}, not ${committed}`);
  }
  return end.exitCode === 0 ? 'done' : 'stopped';
}

/** The end of what happened under a schedule. */
function storyOf(seed: number): string {
  const lines: string[] = [];
  const world = new World(seed, (line) => lines.push(line));
  lines.push(JSON.stringify(world.settings));
  try {
    world.run();
  } catch {
    // It is known.
  }
  return [lines[0], ...lines.slice(1).slice(-60)].join('\n');
}

/** Runs a schedule, and returns what the run came to; throws where something that was promised does not hold. */
function check(seed: number, world: World): string {
  try {
    world.run();
    const outcome = outcomeOf(world);
    const { lastFault, coordinator } = world;
    const { firstStart } = coordinator;
    const isShort = outcome === 'too few' || outcome === 'never complete';
    // Another coordinator waits for the workers of the run as the first one did, and another launch for its own.
    const waits =
      isShort || (world.processes.wasShort && world.coordinator.deaths > 0) || world.processes.launches > 0;
    const late = world.clock.now - Math.max(lastFault, firstStart);
    const waited = world.coordinator.waits > 0 ? STOP_MS : 0;
    const limit = (waits ? LIMIT_MS.waiting : LIMIT_MS.started) + waited;
    if (late > limit) throw new Error(`${outcome} ${late} ms after the last fault`);
    if (firstStart - lastFault > LIMIT_MS.waiting) throw new Error(`the first start was at ${firstStart}`);
    return outcome;
  } catch (error) {
    throw new Error(`schedule ${seed}: ${(error as Error).message}\n${storyOf(seed)}`, { cause: error });
  }
}

test(`${SCHEDULES} schedules: what was promised holds, and every run ends as it should`, () => {
  const counts = new Map<string, number>();
  const count = (what: string, by = 1) => counts.set(what, (counts.get(what) ?? 0) + by);
  for (let seed = FIRST; seed < FIRST + SCHEDULES; seed++) {
    const world = new World(seed);
    count(check(seed, world));
    count('generations', world.witness.generations);
    count('transfers', world.transfers);
    count('shared generations', world.joins);
    count('steps run again', world.coordinator.again);
    count('links broken', world.network.breaks);
    count('coordinators died', world.coordinator.deaths);
    count('launchers died with them', world.processes.launches);
    count('sessions broken', world.resets);
    count('not heard, may return', world.parted);
    count('waits of a stop', world.coordinator.waits);
    count('instruction sets lowered', world.lowered);
    count('states fetched by the coordinator', world.coordinator.fetched);
    count('states served by it', world.coordinator.servings);
    for (const { reason } of world.coordinator.missed) count(`checkpoint ${reason}`);
  }
  if (process.env.SOAK_SCHEDULES !== undefined) console.log(Object.fromEntries(counts));
  if (SCHEDULES < 10_000) return;
  // All of them are tried often enough to find what is wrong with them.
  expect(counts.size).toBe(21);
  for (const [what, times] of counts) expect(times, what).toBeGreaterThan(SCHEDULES / 400);
}, 7_200_000);
