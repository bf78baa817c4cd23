/** Asynchronous checkpoints: the state is copied natively, and written while training continues. */
import type { CheckpointMetadata } from '../checkpoint/manifest.js';
import { retainCheckpoints } from '../checkpoint/retention.js';
import { saveCheckpoint } from '../checkpoint/store.js';
import type { Engine } from '../native/contract.js';
import type { Saved } from '../rpc/proto.js';

interface SaverOptions {
  engine: Engine;
  /** The run's `checkpoints` folder. */
  root: string;
  keep: number;
  /** Whether copying the state blocks computing. It does on a GPU, which has one queue. */
  copyStalls: boolean;
  metadata: (step: number) => CheckpointMetadata;
  onSaved: (saved: Saved) => void;
  /** Called when a checkpoint could not be written; earlier ones are unchanged. */
  onFailed: (error: Error) => void;
}

export class CheckpointSaver {
  readonly #options: SaverOptions;
  #pending: Promise<void> = Promise.resolve();

  constructor(options: SaverOptions) {
    this.#options = options;
  }

  /**
   * Returns when the next update may begin. Waits first if the previous checkpoint is still being written.
   */
  async save(step: number): Promise<void> {
    const { engine, copyStalls, onFailed } = this.#options;
    const started = performance.now();
    await this.#pending;
    const snapshot = engine.snapshot();
    if (copyStalls) await snapshot.catch(() => {});
    const stallSeconds = (performance.now() - started) / 1000;
    this.#pending = this.#write(step, snapshot, stallSeconds).catch(onFailed);
  }

  /** Resolves when no checkpoint is being written. */
  settled(): Promise<void> {
    return this.#pending;
  }

  async #write(step: number, snapshot: ReturnType<Engine['snapshot']>, stallSeconds: number): Promise<void> {
    const { engine, root, keep, metadata, onSaved } = this.#options;
    const content = {
      layout: engine.layout(),
      state: await snapshot,
      posEmbed: engine.posEmbed(),
      metadata: metadata(step),
    };
    const { path, seconds } = await saveCheckpoint(root, content);
    onSaved({ step, path, seconds, stallSeconds });
    await retainCheckpoints(root, keep, path);
  }
}
