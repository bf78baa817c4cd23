/** What goes wrong in a simulated run. */
import type { World } from './world.js';

const KINDS = [
  ...(['dies', 'dies', 'dies', 'freezes', 'leaves', 'comes', 'breaks', 'coordinator'] as const),
  ...(['launcher', 'resets', 'resets'] as const),
];

/** A process dies, freezes, or wants to leave, another one comes, a link breaks, or the coordinator dies. */
export function strike(world: World): void {
  const { below, clock, coordinator, processes } = world;
  world.lastFault = Math.max(world.lastFault, clock.now);
  const kind = KINDS[below(KINDS.length)];
  const living = world.sessions.filter(({ worker, cut }) => worker.alive && !cut);
  const victim = living[below(living.length)]?.worker;
  if (kind === 'comes') {
    processes.starts(`x${below(3)}${clock.now}`, 0);
  } else if (kind === 'coordinator' || kind === 'launcher') {
    // Who wants the run to stop starts no other one.
    if (!world.stopped) coordinator.dieSoon(kind === 'launcher');
  } else if (victim === undefined) {
    return;
  } else if (kind === 'breaks') {
    const other = living[below(living.length)]!.worker;
    if (other === victim) return;
    const until = clock.now + below(20_000);
    world.lastFault = Math.max(world.lastFault, until);
    world.network.breakLink([victim.id, other.id], until);
  } else if (kind === 'resets') {
    world.breakSession(victim);
  } else if (kind === 'leaves') {
    victim.leaving = true;
    processes.countStaying();
    if (coordinator.isAway) world.exits(victim, 143);
    else victim.say('leave', { exitCode: 143 });
  } else if (kind === 'freezes') {
    // Who is frozen already stays so at least as long: nothing of it runs before the rest.
    const until = clock.now + (world.chance(0.5) ? 1_500 : 8_000);
    victim.frozenUntil = Math.max(victim.frozenUntil, until);
    world.lastFault = Math.max(world.lastFault, victim.frozenUntil);
  } else {
    processes.ends(victim, { code: null, signal: 'SIGKILL' }, true);
  }
}
