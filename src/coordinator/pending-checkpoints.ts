/** The checkpoints of a run that were requested and are not published yet, and from which one the run resumes. */
import type { Fault } from '../fault.js';
import type { Saved } from '../rpc/proto.js';
import type { Action, Settings } from './events.js';

interface Pending {
  /** All workers have applied the step with the same state. */
  agreed: boolean;
  /** What rank 0 has staged; null while it writes. */
  staged: Saved | null;
}

export class PendingCheckpoints {
  readonly #settings: Pick<Settings, 'resumePath' | 'resumeStep'>;
  /** By step. There are two at the end of a run whose checkpoint before the last is still being written. */
  readonly #pending = new Map<number, Pending>();
  /** Step of the last checkpoint that this process has published; null = none. */
  #published: number | null = null;

  constructor(settings: Pick<Settings, 'resumePath' | 'resumeStep'>) {
    this.#settings = settings;
  }

  /** The earliest step whose checkpoint is not published yet; null = none. */
  get writing(): number | null {
    const [step = null] = this.#pending.keys();
    return step;
  }

  has(step: number): boolean {
    return this.#pending.has(step);
  }

  request(step: number): void {
    this.#pending.set(step, { agreed: false, staged: null });
  }

  /** All workers hold the same state after the step. */
  agree(step: number): Action[] {
    return this.#publishOnce(step, { agreed: true });
  }

  /** Rank 0 has staged the checkpoint of the step. */
  stage(saved: Saved): Action[] {
    return this.#publishOnce(saved.step, { staged: saved });
  }

  #publishOnce(step: number, change: Partial<Pending>): Action[] {
    const pending = this.#pending.get(step);
    if (pending === undefined) return [];
    const { agreed, staged } = Object.assign(pending, change);
    return agreed && staged !== null ? [{ type: 'publish', saved: staged }] : [];
  }

  published(step: number): void {
    this.#pending.delete(step);
    this.#published = step;
  }

  /** It was not written, or could not be published. */
  failed(step: number): void {
    this.#pending.delete(step);
  }

  /** From where the run goes on after a failure: a sentence. */
  resumption(): string {
    const { resumePath, resumeStep } = this.#settings;
    if (this.#published !== null) {
      return `The last checkpoint is that of step ${this.#published}: --resume auto, the default, goes on from there`;
    }
    if (resumePath === '') return 'There is no checkpoint yet: the same command starts from the beginning';
    return `No checkpoint was written since the run was resumed: the same command resumes from ${resumePath} (step ${resumeStep})`;
  }

  /** The fault, with from where the run goes on after its hint. */
  resumable({ code, message, hint }: Fault, before = ''): Fault {
    const sentence = `${before}${this.resumption()}`;
    return { code, message, hint: hint === null ? sentence : `${hint}. ${sentence}` };
  }
}
