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
  const asked = isAdopted ? null : askedIsa();
  return asked === null ? addon.instructionSets() : [asked];
}

/** The best instruction set that all of these processors have; null: there is none. */
export function bestCommonIsa(all: readonly (readonly string[])[]): string | null {
  const [first = [], ...others] = all;
  return first.find((isa) => others.every((isas) => isas.includes(isa))) ?? null;
}

/**
 * Lets this process, and those that it starts, compute with the instruction set of a run, if the processor has it
 * and the user asks for no other. It must come before the first call that computes, which chooses for good.
 *
 * @param isa null: the run has none yet.
 */
export function adoptIsa(addon: Pick<NativeAddon, 'instructionSets'>, isa: string | null): void {
  if (isa === null || askedIsa() !== null) return;
  const [best, ...others] = addon.instructionSets();
  if (isa === best || !others.includes(isa)) return;
  process.env[ISA] = isa;
  isAdopted = true;
}
