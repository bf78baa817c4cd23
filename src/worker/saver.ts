/** Asynchronous checkpoints: the state is copied natively, and written while training continues. */
import { join } from 'node:path';
import { type CheckpointMetadata, encodeMetadata } from '../checkpoint/manifest.js';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { stageCheckpoint } from '../checkpoint/store.js';
import { faultOf } from '../fault.js';
import type { Snapshot, StateName } from '../native/contract.js';
import { version } from '../version.js';
import { type StateOffers, TransferBroken } from './offer.js';
import type { CoordinatorSession } from './session.js';
import { arithmetic, type WorkerSetup } from './setup.js';
import { stateShare } from './state-transfer.js';

/** Time between two signs that the writing goes on. */
const SIGN_MS = 1_000;
/**
 * How many times the coordinator may begin to receive one state: a network that fails for seconds, or a coordinator
 * that is stopped for a while, does not cost the checkpoint.
 */
const TRANSFERS = 3;

/** Writes what the coordinator publishes, or reports why it could not be written: the run goes on. */
export class CheckpointSaver {
  readonly #setup: WorkerSetup;
  readonly #session: CoordinatorSession;
  readonly #offers: StateOffers | null;
  readonly #note: (text: string) => void;
  /** That the memory of copies is pageable. */
  #isTold = false;
  #writing: Promise<void> = Promise.resolve();
  /** The step whose checkpoint is being written; null: none is. */
  #step: number | null = null;
  /** It was ordered once more, by another coordinator: if this attempt fails, or was declined, another one follows. */
  #again = false;
  #copied: Promise<unknown> = Promise.resolve();

  /** @param offers Where the coordinator gets the state if this worker does not see the run folder; null: it does. */
  constructor(
    setup: WorkerSetup,
    session: CoordinatorSession,
    offers: StateOffers | null,
    note: (text: string) => void,
  ) {
    this.#setup = setup;
    this.#session = session;
    this.#offers = offers;
    this.#note = note;
  }

  /**
   * Returns when the next step may begin; its update waits for the copy of the state. While one checkpoint is written,
   * the coordinator requests no other except that of the last step, which waits. One that a generation before has begun
   * goes on.
   */
  async save(step: number): Promise<void> {
    if (this.#step === step) {
      this.#again = true;
      return;
    }
    const started = performance.now();
    await this.#writing;
    this.#step = step;
    this.#again = false;
    const waited = (performance.now() - started) / 1000;
    const snapshot = this.#copy(waited);
    this.#copied = snapshot.catch(() => {});
    const attempt = () =>
      this.#offers === null ? this.#write(step, snapshot) : this.#offer(this.#offers, step, snapshot);
    this.#writing = this.#untilDone(step, attempt);
  }

  /** @param attempt Returns whether the coordinator wanted it. */
  async #untilDone(step: number, attempt: () => Promise<boolean>): Promise<void> {
    for (;;) {
      const end = await attempt().catch((error: unknown) => faultOf(error));
      // No order comes between these lines: it is one for this attempt, or begins another save().
      if (end !== true && this.#again) {
        this.#again = false;
        continue;
      }
      this.#step = null;
      if (typeof end === 'boolean') return;
      const { code, message, hint } = end;
      this.#session.send({ notSaved: { step, failure: { code, message, hint: hint ?? '' } } });
      return;
    }
  }

  /** Resolves when the state is not being copied, and may be replaced. */
  async copied(): Promise<void> {
    await this.#copied;
  }

  /** Resolves when no checkpoint is being written. */
  settled(): Promise<void> {
    return this.#writing;
  }

  /** @param waited Seconds for which training waited before. */
  async #copy(waited: number): Promise<Snapshot> {
    const { state, stallSeconds, pageable } = await this.#setup.engine.snapshot();
    if (pageable !== null && !this.#isTold) {
      this.#isTold = true;
      this.#note(
        `warn the memory for checkpoints cannot be page-locked (${pageable}): the GPU copies the state slower`,
      );
    }
    return { state, stallSeconds: waited + stallSeconds, pageable };
  }

  async #write(step: number, snapshot: Promise<Snapshot>): Promise<boolean> {
    const { engine, welcome } = this.#setup;
    let signed = performance.now();
    const sign = () => {
      if (performance.now() - signed < SIGN_MS) return;
      signed = performance.now();
      this.#session.send({ saving: {} });
    };
    const { state, stallSeconds } = await snapshot;
    const content = {
      layout: engine.layout(),
      state,
      posEmbed: engine.posEmbed(),
      metadata: this.#metadata(step),
    };
    const root = join(welcome.runDir, CHECKPOINTS);
    const { folder, manifest, seconds } = await stageCheckpoint(root, content, sign);
    const bytes = Object.values(manifest.files).reduce((sum, file) => sum + file.bytes, 0);
    this.#session.send({ saved: { step, folder, seconds, stallSeconds, bytes } });
    return true;
  }

  async #offer(offers: StateOffers, step: number, snapshot: Promise<Snapshot>): Promise<boolean> {
    const { engine, welcome } = this.#setup;
    const { state, stallSeconds } = await snapshot;
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
    for (let transfers = 1; ; transfers++) {
      try {
        return await offers.offer(step, pieces, tell, welcome.patienceSeconds);
      } catch (error) {
        if (!(error instanceof TransferBroken) || transfers === TRANSFERS) throw error;
      }
    }
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
