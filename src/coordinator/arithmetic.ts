/** What the bits of a run depend on besides its configuration: it is the same for all of its workers. */
import type { CheckpointManifest } from '../checkpoint/manifest.js';
import type { Config } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';
import { askedIsa, bestCommonIsa, ISA } from '../native/isa.js';
import type { Standby } from '../rpc/proto.js';

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

/** The arithmetic of the workers of a run. */
export class Arithmetic {
  /** The instruction set that the run has from the start; null: that of its first worker. */
  readonly #given: string | null;
  /** What workers compute with that may return to this coordinator; null: there are none. */
  readonly #former: string | null;
  /** The same, or that of the first worker that stood by. */
  #first: string | null;
  /** The instruction sets that all workers have. */
  #common: readonly string[] | null = null;

  constructor(isa: string | null, former: string | null = null) {
    this.#given = isa;
    this.#former = former;
    this.#first = former;
  }

  /** "device cpu, isa avx2, kernels 3, precision fp32, probe 1f2e3d4c"; '': no worker has said it. */
  get description(): string {
    return this.#first ?? '';
  }

  /** The instruction set with which workers that join have to compute; '': any. */
  get isa(): string {
    return this.#given ?? isaIn(this.description);
  }

  /** The first one is gone, and nobody computes with it: the next one decides. */
  forget(): void {
    this.#first = this.#former;
    this.#common = null;
  }

  /** Takes a worker; or returns why it cannot take part. */
  take({ arithmetic, instructionSets }: Pick<Standby, 'arithmetic' | 'instructionSets'>): string | null {
    const own = isaIn(arithmetic);
    const isOther = this.#given !== null && own !== '' && own !== this.#given;
    if (isOther || arithmetic !== (this.#first ?? arithmetic)) {
      const others = this.#first ?? `isa ${this.#given}`;
      const what = `it computes with ${arithmetic}, and the others with ${others}, so the result would depend on who computes what`;
      return `${what}. ${this.#hint(arithmetic, others, instructionSets)}`;
    }
    this.#first = arithmetic;
    this.#common = this.#common?.filter((isa) => instructionSets.includes(isa)) ?? instructionSets;
    return null;
  }

  /** What to do, so that a worker can take part. */
  #hint(own: string, others: string, possible: readonly string[]): string {
    const isa = isaIn(own);
    if (isa === this.isa) return sameProgram(own, others);
    if (possible.includes(this.isa)) return `Start it without ${ISA}=${isa}, which the run does not have`;
    return restartHint(bestCommonIsa([possible, this.#common ?? possible]));
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
