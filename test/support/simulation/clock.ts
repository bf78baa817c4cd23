/** A virtual clock: what happens next is decided by time alone, and at equal times by the order of scheduling. */

interface Entry {
  at: number;
  order: number;
  run: () => void;
}

function before(a: Entry, b: Entry): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

export class Clock {
  /** Milliseconds. */
  now = 0;
  #order = 0;
  /** A binary heap. */
  readonly #heap: Entry[] = [];

  later(delay: number, run: () => void): void {
    const heap = this.#heap;
    const entry = { at: this.now + delay, order: this.#order++, run };
    let i = heap.length;
    heap.push(entry);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(entry, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = entry;
  }

  /** Runs what is scheduled until it is over, or until nothing is left. */
  run(isOver: () => boolean): void {
    while (!isOver()) {
      const next = this.#pop();
      if (next === null) return;
      this.now = next.at;
      next.run();
    }
  }

  #pop(): Entry | null {
    const heap = this.#heap;
    const [first = null] = heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return first;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
    return first;
  }
}
