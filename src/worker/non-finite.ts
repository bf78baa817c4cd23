/** Finds the source of a NaN or an infinity. Time does not matter, because the step is refused anyway. */
import type { EngineLayout } from '../native/contract.js';
import type { TrainingSlot } from '../step/slot.js';
import type { Generation } from './setup.js';

/** Computes this worker's slots again, and returns those with a non-finite gradient and its first tensor. */
export async function findNonFinite(
  { engine, config }: Generation,
  slots: readonly TrainingSlot[],
  step: number,
): Promise<{ slot: number; tensor: string }[]> {
  const found: { slot: number; tensor: string }[] = [];
  const layout = engine.layout();
  for (const slot of slots) {
    await engine.accumulate({
      slots: [{ ...slot, slot: 0 }],
      totalSlots: 1,
      gradScale: 1 / config.batch.global,
      seed: BigInt(config.seed),
      step,
      statistics: false,
      next: null,
      onBucket: null,
    });
    const { firstNonFinite } = await engine.gradientNorm();
    if (firstNonFinite >= 0) found.push({ slot: slot.slot, tensor: tensorAt(layout, firstNonFinite) });
  }
  return found;
}

function tensorAt(layout: EngineLayout, element: number): string {
  const tensor = layout.tensors.find(({ offset, length }) => element >= offset && element < offset + length);
  return tensor?.name ?? `element ${element}`;
}
