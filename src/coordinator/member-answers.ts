/** What the members of a generation answer to what they were asked, from its forming to its last step. */
import type { Fault } from '../fault.js';
import type { Prepared } from '../rpc/proto.js';
import type { BrokenLinks } from './broken-links.js';
import type { Action, Event, Place, Settings } from './events.js';
import type { Generation } from './generation.js';
import { judgePrepared, oddOnes } from './judge.js';
import type { Membership } from './membership.js';
import { Starting } from './starting.js';
import type { Steps } from './steps.js';

export type Answer = Extract<
  Event,
  { type: 'formed' | 'ready' | 'prepared' | 'applied' | 'validated' | 'finished' | 'suspect' }
>;

/** How the run is when an answer arrives. */
interface Situation {
  /** It ends after this step. */
  stopping: boolean;
  /** "FORMING at step 9", for messages. */
  text: string;
}

/** What follows from an answer. */
interface Answered {
  result: Action[] | Fault;
  /** Something that was ordered is done, or a member has lost its place: others may be free to leave. */
  settles: boolean;
}

const NOTHING: Answered = { result: [], settles: false };
const then = (result: Action[] | Fault): Answered => ({ result, settles: false });
const settled = (result: Action[] | Fault): Answered => ({ result, settles: true });

export class MemberAnswers {
  readonly #settings: Settings;
  readonly #steps: Steps;
  readonly #membership: Membership;
  readonly #starting: Starting;
  readonly #links: BrokenLinks;

  constructor(settings: Settings, steps: Steps, membership: Membership, links: BrokenLinks) {
    this.#settings = settings;
    this.#steps = steps;
    this.#membership = membership;
    this.#starting = new Starting(settings.configHash, steps, membership);
    this.#links = links;
  }

  take(event: Answer, generation: Generation, situation: Situation, now: number): Answered {
    const { id } = event;
    const late = (stage: Generation['stage'], what: string) =>
      this.#late(id, generation, stage, what, situation);
    switch (event.type) {
      case 'formed':
        return late('FORMING', 'Formed') ?? then(this.#starting.formed(generation, id, event.formed, now));
      case 'ready':
        return late('SYNCING', 'Ready') ?? then(this.#starting.ready(generation, id, event.ready, now));
      case 'prepared':
        return (
          late('RUNNING', `Prepared of step ${event.prepared.step}`) ??
          this.#prepared(id, generation, event.prepared, situation, now)
        );
      case 'applied': {
        const { step, stateHash } = event.applied;
        return settled(this.#steps.applied(generation, id, step, stateHash));
      }
      case 'validated':
        return settled(this.#steps.validated(generation, id, event.validated));
      case 'finished': {
        const isLate = late('CHECKPOINTING', 'Finished');
        if (isLate === null) generation.finished.add(id, true);
        return isLate ?? settled([]);
      }
      case 'suspect':
        return then(this.#links.suspect(generation, id, event.suspect, now));
    }
  }

  /** A message that came too late or twice changes nothing. One that nobody could send yet is a fault. */
  #late(
    id: string,
    generation: Generation,
    stage: Generation['stage'],
    what: string,
    situation: Situation,
  ): Answered | null {
    const at = generation.at(stage);
    if (at === 'now') return null;
    return at === 'past' ? NOTHING : this.#outOfOrder(id, what, situation);
  }

  #outOfOrder(id: string, what: string, { text }: Situation): Answered {
    const message = `${this.#membership.name(id)} sent ${what} while the run is ${text}`;
    return then({ code: 'ERR_PROTOCOL', message, hint: null });
  }

  #prepared(
    id: string,
    generation: Generation,
    prepared: Prepared,
    situation: Situation,
    now: number,
  ): Answered {
    const { step } = prepared;
    if (step > generation.step) return this.#outOfOrder(id, `Prepared of step ${step}`, situation);
    const answers = step === generation.step ? generation.prepared.add(id, prepared) : null;
    if (answers === null) return NOTHING;
    // The step is run again without those whose sum is not that of the others.
    const odd = oddOnes(
      generation.places,
      answers.map(({ gradientNorm }) => gradientNorm),
    );
    const differs = (place: Place) => {
      const [own, others] = [place, generation.places.find((other) => !odd.includes(other))!].map(
        ({ rank }) => answers[rank]!.gradientNorm,
      );
      return `has the gradient's norm ${own} at step ${step}, but the others ${others}`;
    };
    if (odd.length > 0) return settled(this.#membership.fence(odd, differs, now));
    const fault = judgePrepared(generation.named(answers), this.#settings.totalSlots);
    return then(fault ?? this.#commit(generation, answers, situation.stopping, now));
  }

  /** All workers have computed the step with the same result, so it is committed. */
  #commit(generation: Generation, prepared: Prepared[], stopping: boolean, now: number): Action[] | Fault {
    const continues = !stopping && generation.step < this.#settings.steps;
    const regroups = continues && this.#membership.rendezvous.regroups(generation.places, now);
    this.#membership.members.hold(generation.places, generation.step);
    const committed = this.#steps.commit(generation, prepared, { stopping, regroups }, now);
    return regroups && Array.isArray(committed) ? [...committed, ...this.#membership.form(now)] : committed;
  }
}
