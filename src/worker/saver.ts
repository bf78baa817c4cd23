/** Asynchronous checkpoints: the state is copied natively, and written while training continues. */
import { join } from 'node:path';
import type { CheckpointMetadata } from '../checkpoint/manifest.js';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { stageCheckpoint } from '../checkpoint/store.js';
import { faultOf } from '../fault.js';
import type { StateTensors } from '../native/contract.js';
import { version } from '../version.js';
import { arithmetic, type Generation } from './setup.js';

/** Time between two signs that the writing goes on. */
const SIGN_MS = 1_000;

/** Writes what the coordinator publishes, or reports why it could not be written: the run goes on. */
export class CheckpointSaver {
  readonly #generation: Generation;
  #writing: Promise<void> = Promise.resolve();

  constructor(generation: Generation) {
    this.#generation = generation;
  }

  /**
   * Returns when the next update may begin. While one checkpoint is written, the coordinator requests no other
   * except that of the last step, which waits.
   */
  async save(step: number): Promise<void> {
    const { engine, gpu, session } = this.#generation;
    const started = performance.now();
    await this.#writing;
    const snapshot = engine.snapshot();
    // A GPU has one queue, so copying the state blocks computing.
    if (gpu !== null) await snapshot.catch(() => {});
    const stallSeconds = (performance.now() - started) / 1000;
    this.#writing = this.#write(step, snapshot, stallSeconds).catch((error) => {
      const { code, message, hint } = faultOf(error);
      session.send({ notSaved: { step, failure: { code, message, hint: hint ?? '' } } });
    });
  }

  /** Resolves when no checkpoint is being written. */
  settled(): Promise<void> {
    return this.#writing;
  }

  async #write(step: number, snapshot: Promise<StateTensors>, stallSeconds: number): Promise<void> {
    const { engine, session, welcome } = this.#generation;
    let signed = performance.now();
    const sign = () => {
      if (performance.now() - signed < SIGN_MS) return;
      signed = performance.now();
      session.send({ saving: {} });
    };
    const content = {
      layout: engine.layout(),
      state: await snapshot,
      posEmbed: engine.posEmbed(),
      metadata: this.#metadata(step),
    };
    const root = join(welcome.runDir, CHECKPOINTS);
    const { folder, manifest, seconds } = await stageCheckpoint(root, content, sign);
    const bytes = Object.values(manifest.files).reduce((sum, file) => sum + file.bytes, 0);
    session.send({ saved: { step, folder, seconds, stallSeconds, bytes } });
  }

  #metadata(step: number): CheckpointMetadata {
    const { config, dataset, plan, gpu, training } = this.#generation;
    return {
      step,
      planState: plan.state(step, config.batch.global),
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
