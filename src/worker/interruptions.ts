/** What ends that which a worker is doing, and is no error of it. */

/** The coordinator ended the run, and has printed the reason. */
export class Stopped extends Error {
  readonly exitCode: number;

  constructor(exitCode: number) {
    super('the coordinator ended the run');
    this.exitCode = exitCode;
  }
}

/** The next generation forms: what this one was doing is abandoned. */
export class Regrouped extends Error {
  constructor() {
    super('the next generation forms');
  }
}

/** The run computes with another instruction set than this worker has built for: it is to build again. */
export class Levelled extends Error {
  constructor() {
    super('the run computes with another instruction set');
  }
}

/** Rejects with the reason when the signal is aborted. */
export function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason as Error);
    else signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}
