/** Asynchronous checkpoints: the state is copied natively, and written while training continues. */
import { join } from 'node:path';
import { type CheckpointMetadata, encodeMetadata } from '../checkpoint/manifest.js';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { stageCheckpoint } from '../checkpoint/store.js';
import { faultOf } from '../fault.js';
import type { StateName, StateTensors } from '../native/contract.js';
import { version } from '../version.js';
import type { StateOffers } from './offer.js';
import type { CoordinatorSession } from './session.js';
import { arithmetic, type WorkerSetup } from './setup.js';
import { stateShare } from './state-transfer.js';

/** Time between two signs that the writing goes on. */
const SIGN_MS = 1_000;

/** Writes what the coordinator publishes, or reports why it could not be written: the run goes on. */
export class CheckpointSaver {
  readonly #setup: WorkerSetup;
  readonly #session: CoordinatorSession;
  readonly #offers: StateOffers | null;
  #writing: Promise<void> = Promise.resolve();
  /** The step whose checkpoint is being written; null: none is. */
  #step: number | null = null;
  /** It was ordered once more, by another coordinator: if the first attempt fails, it is written again. */
  #again = false;
  #copied: Promise<unknown> = Promise.resolve();

  /** @param offers Where the coordinator gets the state if this worker does not see the run folder; null: it does. */
  constructor(setup: WorkerSetup, session: CoordinatorSession, offers: StateOffers | null) {
    this.#setup = setup;
    this.#session = session;
    this.#offers = offers;
  }

  /**
   * Returns when the next update may begin. While one checkpoint is written, the coordinator requests no other
   * except that of the last step, which waits. One that a generation before has begun goes on.
   */
  async save(step: number): Promise<void> {
    if (this.#step === step) {
      this.#again = true;
      return;
    }
    const { engine, gpu } = this.#setup;
    const started = performance.now();
    await this.#writing;
    this.#step = step;
    this.#again = false;
    const snapshot = engine.snapshot();
    this.#copied = snapshot.catch(() => {});
    // A GPU has one queue, so copying the state blocks computing.
    if (gpu !== null) await this.#copied;
    const stallSeconds = (performance.now() - started) / 1000;
    const attempt = () =>
      this.#offers === null
        ? this.#write(step, snapshot, stallSeconds)
        : this.#offer(this.#offers, step, snapshot, stallSeconds);
    this.#writing = attempt()
      .catch((error) => {
        if (!this.#again) throw error;
        return attempt();
      })
      .catch((error) => {
        const { code, message, hint } = faultOf(error);
        this.#session.send({ notSaved: { step, failure: { code, message, hint: hint ?? '' } } });
      })
      .finally(() => {
        this.#step = null;
      });
  }

  /** Resolves when the state is not being copied, and may be replaced. */
  async copied(): Promise<void> {
    await this.#copied;
  }

  /** Resolves when no checkpoint is being written. */
  settled(): Promise<void> {
    return this.#writing;
  }

  async #write(step: number, snapshot: Promise<StateTensors>, stallSeconds: number): Promise<void> {
    const { engine, welcome } = this.#setup;
    let signed = performance.now();
    const sign = () => {
      if (performance.now() - signed < SIGN_MS) return;
      signed = performance.now();
      this.#session.send({ saving: {} });
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
    this.#session.send({ saved: { step, folder, seconds, stallSeconds, bytes } });
  }

  async #offer(
    offers: StateOffers,
    step: number,
    snapshot: Promise<StateTensors>,
    stallSeconds: number,
  ): Promise<void> {
    const { engine } = this.#setup;
    const state = await snapshot;
    const { moments } = engine.layout();
    const ema = state.has('ema');
    const memory = {
      layout: () => engine.layout(),
      posEmbed: () => engine.posEmbed(),
      state: async (array: StateName, tensor: string) => await state.get(array)!(tensor),
    };
    const pieces = await stateShare(memory, ema, 0, 1);
    const metadata = encodeMetadata(this.#metadata(step));
    const tell = (number: number) =>
      this.#session.send({ offered: { step, metadata, moments, ema, stallSeconds, number } });
    const isWanted = await offers.offer(step, pieces, tell);
    if (isWanted || !this.#again) return;
    // It was ordered between the offer and the answer.
    this.#again = false;
    await this.#offer(offers, step, snapshot, stallSeconds);
  }

  #metadata(step: number): CheckpointMetadata {
    const { config, dataset, plan, gpu, training } = this.#setup;
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
