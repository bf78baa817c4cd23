/** What the bits of a run depend on besides its configuration: it is the same for all of its workers. */
import type { CheckpointManifest } from '../checkpoint/manifest.js';
import type { Config } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import { askedIsa, commonIsas, ISA } from '../native/isa.js';
import type { Join } from '../rpc/proto.js';

/**
 * The instruction set of a run that is resumed from a checkpoint; null: the run begins, or computes or did compute on
 * GPUs. Other keys of `versions` follow from the program and the configuration.
 *
 * @param asked The one that the user asks for, who accepts that the bits are others from here on.
 */
export function isaOfRun(
  { device }: Pick<Config, 'device'>,
  manifest: Pick<CheckpointManifest, 'versions'> | null,
  asked = askedIsa(),
): string | null {
  const { isa = null, device: then = 'cpu' } = manifest?.versions ?? {};
  return device === 'cpu' && then === 'cpu' ? (asked ?? isa) : null;
}

/** The error of a place where no worker can compute as the run does. */
export function lacksIsa(
  code: 'ERR_ISA' | 'ERR_HOST',
  who: string,
  isa: string,
  possible: readonly string[],
  common = possible[0] ?? null,
): OrchestratorError {
  const message = `${who} lacks the instruction set ${isa}, with which the run computed up to its checkpoint; it has ${possible.join(', ')}`;
  return new OrchestratorError(code, message, restartHint(common));
}

/** What to tell where processors have more than the run makes use of. */
export function slowerIsa(isa: string, possible: string): string {
  return `all workers compute with ${isa}, as up to the checkpoint, so that the bits stay the same (${possible}); with ${ISA} set to another one, the run goes on with other bits`;
}

/** How a run goes on with another instruction set; null: there is none that its workers have in common. */
function restartHint(isa: string | null): string {
  return isa === null
    ? 'Its processors and those of the other workers have no instruction set in common'
    : `To go on with other bits: ${ISA}=${isa} before the same command of launch, which resumes the run; all workers then compute with ${isa}`;
}

/** What a worker that joins says of its processor. */
export type Processor = Pick<Join, 'instructionSets' | 'onlyIsa'>;

/** What follows when a worker joins. */
type Joined =
  | { refusal: string }
  | {
      /** Those that have joined before have to compute with less than they were told. */
      lowers: boolean;
      /** What the user should know. */
      note: string | null;
    };

const NOTHING: Joined = { lowers: false, note: null };
const DEPENDS = 'so the result would depend on who computes what';

/**
 * The arithmetic of the workers of a run. On CPUs its instruction set is fixed at the first generation; until then it
 * is the best that all have who have joined.
 */
export class Arithmetic {
  /** The instruction set that the run has from the start; null: none. */
  readonly #given: string | null;
  /** What workers compute with that may return to this coordinator; null: there are none. */
  readonly #former: string | null;
  /** Those of all workers that are to be started, the best first; null: nobody knows. */
  readonly #expected: readonly string[] | null;
  /** The same, or that of the first worker that stood by. */
  #first: string | null;
  #isFixed: boolean;
  /** The instruction sets that the processors of all workers have, the best first; null: nobody has said. */
  #common: readonly string[] | null = null;
  /** Those of them with which all may compute. */
  #possible: readonly string[] | null = null;
  /** Why it computes with the best of these: "the best that worker local-1 (pid 4242 on host) may use". */
  #because = '';
  /** Why so is known to the user of this one. */
  #told = '';
  /** What workers were told to compute with before others joined that have less. */
  readonly #earlier = new Set<string>();

  /**
   * @param onGpus Whether it is GPUs that compute: the instruction sets of processors do not matter then.
   * @param expected The instruction sets that all have who are to be started, the best first, where some have others;
   *   null: all are alike, or nobody knows. The user has been told.
   */
  constructor(
    isa: string | null,
    former: string | null = null,
    onGpus = false,
    expected: readonly string[] | null = null,
  ) {
    this.#given = isa;
    this.#expected = onGpus ? null : expected;
    this.#possible = this.#expected;
    this.#told = expected?.[0] ?? '';
    this.#former = former;
    this.#first = former;
    this.#isFixed = isa !== null || former !== null || onGpus;
  }

  /** "device cpu, isa avx2, kernels 3, precision fp32, probe 1f2e3d4c"; '': no worker has said it. */
  get description(): string {
    return this.#first ?? '';
  }

  /** The instruction set with which workers have to compute; '': any, or on GPUs. */
  get isa(): string {
    return this.#given ?? (isaIn(this.description) || (this.#possible?.[0] ?? ''));
  }

  /** The first generation forms. */
  fix(): void {
    this.#isFixed = true;
  }

  /** The first one to stand by is gone, and nobody computes with it: the next one decides. */
  forget(): void {
    this.#first = this.#former;
  }

  /**
   * A worker has joined.
   *
   * @param name What it is called: "worker local-1 (pid 4242 on host)".
   * @param isFirst Whether there are no others.
   */
  join(name: string, { instructionSets: has, onlyIsa: only }: Processor, isFirst: boolean): Joined {
    if (isFirst && !this.#isFixed) this.#beginAgain();
    // One whose user asks for what its processor lacks says so itself, and ends.
    const own = only === '' ? has : has.filter((isa) => isa === only);
    if (own.length === 0) return NOTHING;
    const before = this.isa;
    const known = this.#isFixed ? null : this.#possible;
    const possible = (known ?? (before === '' ? own : [before])).filter((isa) => own.includes(isa));
    if (possible.length === 0) return { refusal: this.#refusal(own[0]!, has) };
    this.#common = this.#common?.filter((isa) => has.includes(isa)) ?? has;
    if (this.#isFixed) return NOTHING;

    this.#possible = possible;
    const [isa] = possible as [string];
    const lowers = before !== '' && isa !== before;
    if (lowers) this.#lower(before);
    if (isa !== before) this.#because = `the ${only === '' ? 'best' : 'only one'} that ${name} may use`;
    return { lowers, note: lowers || own[0] !== isa ? this.#note(isa) : null };
  }

  #beginAgain(): void {
    this.forget();
    this.#common = null;
    this.#possible = this.#expected;
  }

  #lower(before: string): void {
    this.#earlier.add(before);
    this.forget();
  }

  /** Null: the user knows it. */
  #note(isa: string): string | null {
    if (this.#told === isa) return null;
    this.#told = isa;
    return `all workers compute with ${isa}, ${this.#because}`;
  }

  /** Whether a worker says this that has not heard yet that it is to build again. */
  isEarlier(arithmetic: string): boolean {
    const isa = isaIn(arithmetic);
    return isa !== this.isa && this.#earlier.has(isa);
  }

  /** Takes a worker that stands by; or returns why it cannot take part. */
  take(arithmetic: string): string | null {
    const [own, { isa }] = [isaIn(arithmetic), this];
    const isOther = own !== '' && isa !== '' && own !== isa;
    if (!isOther && arithmetic === (this.#first ?? arithmetic)) {
      this.#first = arithmetic;
      return null;
    }
    const others = this.#first ?? `isa ${isa}`;
    const hint = isOther ? `Start it again: it then computes with ${isa}` : sameProgram(arithmetic, others);
    return `it computes with ${arithmetic}, and the others with ${others}, ${DEPENDS}. ${hint}`;
  }

  /** Why a worker cannot join that has not the instruction set of the others, and what to do so that it can. */
  #refusal(own: string, has: readonly string[]): string {
    const hint = has.includes(this.isa)
      ? `Start it again, without ${ISA}=${own}`
      : restartHint(commonIsas([has, this.#common ?? has])[0] ?? null);
    return `it would compute with isa ${own}, and the others compute with isa ${this.isa}, ${DEPENDS}. ${hint}`;
  }
}

/** What differs where the instruction sets do not. */
function sameProgram(own: string, others: string): string {
  const [a, b] = [own, others].map((text) => text.replace(/, probe \w+$/, ''));
  return a === b
    ? `Its processors give other bits for the same instructions: start the run and all of its workers with ${ISA}=generic, or without this machine`
    : 'All workers need the same version of the program, GPUs and libraries, and a precision.compute that is not auto';
}

function isaIn(arithmetic: string): string {
  return /\bisa (\w+)/.exec(arithmetic)?.[1] ?? '';
}
