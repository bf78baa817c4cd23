/** What must hold of the workers of a simulated run when its coordinator acts. */
import { DEBOUNCE_MS } from '../../../src/coordinator/rendezvous.js';
import type { World } from './world.js';

/** After a step, whoever has waited long enough for a place has one, and who wants to leave has none. */
export function checkPlaces({ clock, coordinator, sessions, settings }: World): void {
  const { places } = coordinator.state;
  const { totalSlots, minWorkers } = settings;
  const open = sessions.filter((session) => session.open && session.worker.alive);
  const members = open.map(({ worker }) => worker);
  const staying = members.filter(({ heard }) => heard.standby !== null && heard.leave === null);
  for (const { id, heard, generation } of members) {
    const isPlaced = places.some((place) => place.id === id);
    const waited = clock.now - (heard.standby ?? clock.now);
    if (staying.length >= minWorkers && heard.leave !== null && isPlaced) {
      const others = staying.filter((other) => other.generation === generation && other.before !== null);
      if (others.length > 0) throw new Error(`${id} cannot leave`);
    } else if (heard.leave === null && waited > DEBOUNCE_MS && !isPlaced && places.length < totalSlots) {
      throw new Error(`${id} has waited ${waited} ms for a place`);
    }
  }
}

/**
 * The run goes on after this step: no worker that lives holds a much later one. A step that not all have applied may
 * be run again.
 */
export function checkNothingLost({ clock, sessions }: World, from: number): void {
  for (const { worker, cut } of sessions) {
    const step = worker.alive && !cut && worker.frozenUntil <= clock.now ? (worker.held?.step ?? 0) : 0;
    if (step > from + 1)
      throw new Error(`the run goes on after step ${from}, and ${worker.id} holds ${step}`);
  }
}
