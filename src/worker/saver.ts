/** Asynchronous checkpoints: the state is copied natively, and written while training continues. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { CheckpointMetadata } from '../checkpoint/manifest.js';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { retainCheckpoints } from '../checkpoint/retention.js';
import { saveCheckpoint } from '../checkpoint/store.js';
import type { StateTensors } from '../native/contract.js';
import { version } from '../version.js';
import { arithmetic, type Generation } from './setup.js';

export class CheckpointSaver {
  readonly #generation: Generation;
  #pending: Promise<void> = Promise.resolve();

  constructor(generation: Generation) {
    this.#generation = generation;
  }

  /**
   * Returns when the next update may begin. Waits first if the previous checkpoint is still being written.
   */
  async save(step: number): Promise<void> {
    const { engine, gpu, session } = this.#generation;
    const started = performance.now();
    await this.#pending;
    const snapshot = engine.snapshot();
    // A GPU has one queue, so copying the state blocks computing.
    if (gpu !== null) await snapshot.catch(() => {});
    const stallSeconds = (performance.now() - started) / 1000;
    // Earlier checkpoints are unchanged by a failure.
    this.#pending = this.#write(step, snapshot, stallSeconds).catch((error) => session.fail(error));
  }

  /** Resolves when no checkpoint is being written. */
  settled(): Promise<void> {
    return this.#pending;
  }

  async #write(step: number, snapshot: Promise<StateTensors>, stallSeconds: number): Promise<void> {
    const { config, engine, session, welcome } = this.#generation;
    const root = join(welcome.runDir, CHECKPOINTS);
    const { path, seconds } = await saveCheckpoint(root, {
      layout: engine.layout(),
      state: await snapshot,
      posEmbed: engine.posEmbed(),
      metadata: this.#metadata(step),
    });
    session.send({ saved: { step, path, seconds, stallSeconds, bytes: await bytesOf(path) } });
    await retainCheckpoints(root, config.checkpoint.keep, path);
  }

  #metadata(step: number): CheckpointMetadata {
    const { config, dataset, plan, gpu, training } = this.#generation;
    return {
      step,
      planState: { ...plan.state(step, config.batch.global) },
      datasetHash: dataset.hash,
      config,
      modelSpec: training.spec.model,
      optimizer: training.spec.optimizer,
      latent: dataset.latent,
      text: dataset.text,
      encoders: dataset.encoders,
      versions: { orchestrator: version(), node: process.version, ...arithmetic(training, gpu) },
    };
  }
}

/** Bytes of the files of a folder. */
async function bytesOf(folder: string): Promise<number> {
  const files = await Promise.all((await readdir(folder)).map((name) => stat(join(folder, name))));
  return files.reduce((sum, { size }) => sum + size, 0);
}
