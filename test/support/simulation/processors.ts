/** The processors of a simulated run, which differ or not. */

/** The instruction sets of processors, the best first. */
const INSTRUCTION_SETS = ['avx512', 'avx2', 'generic'];

export class Processors {
  readonly #below: (n: number) => number;
  readonly #areMixed: boolean;
  readonly #known = new Map<string, readonly string[]>();

  constructor(below: (n: number) => number, areMixed: boolean) {
    this.#below = below;
    this.#areMixed = areMixed;
  }

  /** The instruction sets of a worker's processor, which is the same for all processes of a name. */
  of(id: string): readonly string[] {
    const known = this.#known.get(id);
    const isas = known ?? INSTRUCTION_SETS.slice(this.#areMixed ? this.#below(INSTRUCTION_SETS.length) : 0);
    this.#known.set(id, isas);
    return isas;
  }
}
