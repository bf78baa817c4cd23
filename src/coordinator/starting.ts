/** From the forming of a generation to its start: whether its members share memory, and where their state comes from. */
import type { Fault } from '../fault.js';
import type { Formed, Ready } from '../rpc/proto.js';
import type { Action, Place } from './events.js';
import type { Generation } from './generation.js';
import { judgeReady, oddOnes } from './judge.js';
import type { Membership } from './membership.js';
import { sharedSource, sourceOf } from './source.js';
import type { Steps } from './steps.js';

export class Starting {
  readonly #configHash: string;
  readonly #steps: Steps;
  readonly #membership: Membership;

  constructor(configHash: string, steps: Steps, membership: Membership) {
    this.#configHash = configHash;
    this.#steps = steps;
    this.#membership = membership;
  }

  /**
   * When all members have reached their peers, they are told where their state comes from; a fault if they must
   * share memory and cannot.
   */
  formed(generation: Generation, id: string, formed: Formed, now: number): Action[] | Fault {
    const answers = generation.formed.add(id, formed);
    if (answers === null) return [];
    const { places } = generation;
    const { members, sharing } = this.#membership;
    const see = places.map(({ id }) => members.seesFolder(id));
    const verdict = sharing.judge(places, answers, members);
    if ('fault' in verdict) return verdict.fault;
    if ('unable' in verdict) {
      const why = (place: Place) => verdict.unable.find((one) => one.place === place)!.problem;
      const reason = (place: Place) => `cannot share memory with the others: ${why(place)}`;
      return this.#membership.fence(
        verdict.unable.map(({ place }) => place),
        reason,
        now,
      );
    }
    const { shared, note } = verdict;
    const late = this.#membership.reached(generation);
    const devices = answers.flatMap(({ device }) => device ?? []);
    const { committed, checkpoints } = this.#steps;
    const held = answers.map((answer) => answer.held?.step ?? null);
    const { step, syncs } = shared
      ? { step: null, syncs: sharedSource(see, checkpoints.last) }
      : sourceOf(held, see, committed, checkpoints.last);
    generation.sync(step, now);
    if (!shared) members.overwrite(places.filter(({ rank }) => !syncs[rank]!.keep));
    return [
      ...(note === null ? [] : [{ type: 'warn' as const, message: note }]),
      ...late.flatMap(({ id }) => this.#membership.tooLate(id, now)),
      ...places.map(({ id, rank }) => generation.send({ sync: { ...syncs[rank], devices, shared } }, [id])),
    ];
  }

  /** When all members have the same state, they start; a fault if they do not. */
  ready(generation: Generation, id: string, ready: Ready, now: number): Action[] | Fault {
    const answers = generation.ready.add(id, ready);
    // From now on it can give the state to others, whatever becomes of those that it has it from.
    this.#membership.members.hold([generation.place(id)!], generation.from ?? ready.step);
    if (answers === null) return [];
    const from = generation.from ?? answers[0]!.step;
    const odd = oddOnes(
      generation.places,
      answers.map(({ stateHash }) => stateHash),
    );
    if (odd.length > 0) return this.#membership.fence(odd, () => 'has another state than the others', now);
    const fault = judgeReady(generation.named(answers), { configHash: this.#configHash, step: from });
    if (fault !== null) return fault;
    const again = this.#steps.begun ? null : this.#steps.begin(from);
    const start = this.#steps.start(generation, from, this.#membership.stopping, now);
    return [{ type: 'started', firstStep: from + 1, ready: answers, again }, ...start];
  }
}
