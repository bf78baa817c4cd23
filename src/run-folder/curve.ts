/** A curve of bounded size, made while its values are read. */
import type { ValidationLoss } from '../telemetry/run-progress.js';

export class Curve {
  readonly #most: number;
  /** How many values a point is the mean of. */
  #size = 1;
  readonly #points: ValidationLoss[] = [];
  /** Values that came after the last point. */
  readonly #rest: ValidationLoss[] = [];

  /** @param most points; an even number. */
  constructor(most: number) {
    this.#most = most;
  }

  /** Adds the value of the next step. */
  add(value: ValidationLoss): void {
    this.#rest.push(value);
    if (this.#rest.length === this.#size) this.#points.push(mean(this.#rest.splice(0)));
    if (this.#points.length < this.#most) return;
    const points = this.#points.splice(0);
    for (let i = 0; i < points.length; i += 2) this.#points.push(mean(points.slice(i, i + 2)));
    this.#size *= 2;
  }

  /** At most so many as the constructor was told. The last one is the mean of the values that are left. */
  get points(): ValidationLoss[] {
    return this.#rest.length === 0 ? [...this.#points] : [...this.#points, mean(this.#rest)];
  }
}

function mean(values: readonly ValidationLoss[]): ValidationLoss {
  const total = values.reduce((sum, { loss }) => sum + loss, 0);
  return { step: values.at(-1)!.step, loss: total / values.length };
}
