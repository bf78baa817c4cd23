/** How far the validation in progress is, from the heartbeats of the workers. */
import type { ValidatedSlots } from '../telemetry/record.js';

export class ValidationProgress {
  /** Slots that are computed, by worker; null: no validation is in progress. */
  #by: Map<string, number> | null = null;

  /** @param validating Whether a validation follows the step that was committed. */
  committed(validating: boolean): void {
    this.#by = validating ? new Map() : null;
  }

  over(): void {
    this.#by = null;
  }

  /**
   * @param slots Slots that a worker has computed.
   * @param total Slots of the whole validation.
   * @returns null if nothing has changed.
   */
  heard(id: string, slots: number, total: number): ValidatedSlots | null {
    // A worker that has begun the next step counts from 0 again, while slower ones still validate.
    if (this.#by === null || slots <= (this.#by.get(id) ?? 0)) return null;
    this.#by.set(id, slots);
    const counted = [...this.#by.values()].reduce((sum, own) => sum + own, 0);
    // What one counted that has left is counted again by those that took its place.
    return { done: Math.min(total, counted), total };
  }
}
