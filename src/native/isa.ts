/** With which of a processor's instruction sets this process and those that it starts compute. */
import type { NativeAddon } from './contract.js';

/** The variable of the environment by which users ask for an instruction set. */
export const ISA = 'ORCHESTRATOR_ISA';

/** The instruction set that the user asks for; null: none. */
export function askedIsa(environment: NodeJS.ProcessEnv = process.env): string | null {
  return environment[ISA] || null;
}

/** Whether the instruction set in the environment is that of a run, not of the user's choice. */
let isAdopted = false;

/** Those with which this machine may compute, the best first: the one that the user asks for, or all. */
export function possibleIsas(addon: Pick<NativeAddon, 'instructionSets'>): string[] {
  const { instructionSets, onlyIsa } = offeredIsas(addon);
  return onlyIsa === '' ? instructionSets : [onlyIsa];
}

/** The instruction sets of this machine, the best first, and the one that the user asks for; '': none. */
export function offeredIsas(addon: Pick<NativeAddon, 'instructionSets'>) {
  return { instructionSets: addon.instructionSets(), onlyIsa: isAdopted ? '' : (askedIsa() ?? '') };
}

/** The instruction sets that all of these processors have, the best first. */
export function commonIsas(all: readonly (readonly string[])[]): string[] {
  const [first = [], ...others] = all;
  return first.filter((isa) => others.every((isas) => isas.includes(isa)));
}

/**
 * Lets this process, and those that it starts, compute with the instruction set of a run, if the processor has it
 * and the user asks for no other. No engine may be open that computes with another one.
 *
 * @param isa null: the run has none yet.
 */
export function adoptIsa(
  addon: Pick<NativeAddon, 'instructionSets' | 'useInstructionSet'>,
  isa: string | null,
): void {
  if (isa === null || (askedIsa() !== null && !isAdopted)) return;
  const [best, ...others] = addon.instructionSets();
  if (isa === (askedIsa() ?? best) || ![best, ...others].includes(isa)) return;
  addon.useInstructionSet(isa);
  process.env[ISA] = isa;
  isAdopted = true;
}
