/** Whether a model that only predicts, or is evaluated once, fits into this machine. */

import { refusal } from '../memory/fit.js';
import { machineMemory } from '../memory/machine.js';
import type { MemoryPart } from '../memory/parts.js';
import type { EngineSpec, NativeAddon } from '../native/contract.js';

/**
 * Asked before an engine is made: pages are given out as they are written, and a system without more ends the process
 * without a word. On a GPU allocations fail by themselves.
 *
 * @throws OrchestratorError ERR_OUT_OF_MEMORY
 */
export function requireMemory(
  addon: Pick<NativeAddon, 'planFigures'>,
  spec: EngineSpec,
  machine = machineMemory(),
): void {
  if (spec.device !== null) return;
  const { length, arenaBytes } = addon.planFigures(spec);
  const parts: MemoryPart[] = [
    { name: 'weights, fp32', bytes: 4 * length },
    { name: 'weights, bf16', bytes: spec.precision === 'bf16' ? 2 * length : 0 },
    { name: 'gradients', bytes: spec.training ? 4 * length : 0 },
    { name: 'activations', bytes: arenaBytes[0]! },
  ];
  const hint = () =>
    'Fewer samples at once need less for activations; --precision fp32 holds the weights once.';
  const problem = refusal({ who: 'The model needs', parts }, machine, hint);
  if (problem !== null) throw problem;
}
