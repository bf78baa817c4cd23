/** Checks that a model for inference or for a single case fits into this machine. */
import { refusal } from '../memory/fit.js';
import { machineMemory } from '../memory/machine.js';
import type { MemoryPart } from '../memory/parts.js';
import type { EngineSpec, NativeAddon } from '../native/contract.js';

/**
 * Must be called before an engine is created: the system assigns pages only when they are written, and kills
 * the process without a message if it has no more. On a GPU, allocations fail by themselves.
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
  const fewer = 'Fewer samples at once need less memory for activations';
  const hint = () =>
    spec.precision === 'bf16' ? `${fewer}; --precision fp32 keeps only one copy of the weights` : fewer;
  const problem = refusal({ who: 'The model needs', parts }, machine, hint);
  if (problem !== null) throw problem;
}
