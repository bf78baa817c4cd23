/** What must hold of the workers of a simulated run when its coordinator acts. */
import { ENDED } from '../../../src/rule/events.js';
import { DEBOUNCE_MS } from '../../../src/rule/rendezvous.js';
import type { Session } from './session.js';
import type { Worker } from './worker.js';
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

/** Those that stand still and hold a later step than all that form a generation: the run goes on without waiting. */
export function leaveBehind({ clock, coordinator, sessions }: World): void {
  const { places } = coordinator.state;
  const isPlaced = ({ id }: Worker) => places.some((place) => place.id === id);
  const workers = sessions.filter(({ worker, cut }) => worker.alive && !cut).map(({ worker }) => worker);
  const newest = Math.max(0, ...workers.filter(isPlaced).map(({ held }) => held?.step ?? 0));
  for (const worker of workers) {
    const isLater = (worker.held?.step ?? 0) > newest + 1;
    worker.isLeftBehind ||= isLater && worker.frozenUntil > clock.now;
  }
}

/**
 * The run goes on after this step: no worker that lives holds a much later one. A step that not all have applied may
 * be run again. Nobody waits for one that stands still; when it comes back, its state is used from its next place on.
 */
export function checkNothingLost(world: World, from: number): void {
  const { places } = world.coordinator.state;
  for (const { worker, cut } of world.sessions) {
    worker.isLeftBehind &&= !places.some(({ id }) => id === worker.id);
    const isLater = worker.alive && !cut && (worker.held?.step ?? 0) > from + 1;
    if (!isLater || worker.isLeftBehind) continue;
    worker.isLeftBehind = worker.frozenUntil > world.clock.now;
    if (!worker.isLeftBehind)
      throw new Error(`the run goes on after step ${from}, and ${worker.id} holds ${worker.held!.step}`);
  }
}

/**
 * Whoever is let go holds nothing that neither a checkpoint nor another worker has, but for one step. That a member of
 * the generation has just died, the coordinator may not have heard yet.
 */
export function checkReleased({ coordinator, witness, sessions }: World, ids: readonly string[]): void {
  const { places } = coordinator.state;
  const isThere = ({ alive, id }: Worker) => alive || places.some((place) => place.id === id);
  const workers = sessions.filter(({ worker, cut }) => isThere(worker) && !cut).map(({ worker }) => worker);
  const others = workers.filter(({ id }) => !ids.includes(id));
  const newest = Math.max(witness.published.at(-1) ?? 0, ...others.map(({ held }) => held?.step ?? 0));
  for (const { id, held, alive } of workers) {
    const isLost = alive && ids.includes(id) && (held?.step ?? 0) > newest + 1;
    if (isLost) throw new Error(`${id} is let go with step ${held!.step}, and the others hold ${newest}`);
  }
}

/**
 * Who resumes from a checkpoint does not validate its step again. So its validation is there before it, as long as the
 * run has members that hold the state and can make it.
 */
export function checkValidated({ coordinator, witness, sessions }: World, step: number): void {
  const { phase, places } = coordinator.state;
  // Who has computed the next step has validated this one, though its message may come late.
  if (ENDED.has(phase) || witness.committed > step || !witness.isValidating(step)) return;
  // One whose session was broken since has not said again what it holds.
  const isAble = ({ worker, open }: Session) =>
    worker.alive &&
    open &&
    worker.heard.standby !== null &&
    worker.held?.step === step &&
    places.some(({ id }) => id === worker.id);
  if (sessions.some(isAble)) throw new Error(`the checkpoint of step ${step} comes before its validation`);
}
