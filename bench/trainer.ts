/** Training steps of the real engine, as in a worker of a run, but without the exchange. */
import { inferenceSpec } from '../src/engine/spec.js';
import type { Engine } from '../src/native/contract.js';
import { native } from '../src/native/load.js';
import { contextTokens } from '../src/native/specs.js';
import { objectiveOf } from '../src/objective/objective.js';
import { firstSegment, SamplePlan } from '../src/step/plan.js';
import { SlotBatches } from '../src/step/slot.js';
import type { EngineChoice } from './engine.js';
import type { BenchShape } from './shapes.js';
import { rowsOf, writeSyntheticData } from './synthetic-data.js';

interface Round {
  steps: number;
  seconds: number;
  loss: number;
  gatherSeconds: number;
  computeSeconds: number;
  updateSeconds: number;
}

export class BenchTrainer {
  readonly engine: Engine;
  readonly flopsPerStep: number;
  readonly parameters: number;
  readonly #batches: SlotBatches;
  readonly #globalBatch: number;
  readonly #slots: number;
  #step = 0;

  static async open(choice: EngineChoice, dataFile: string): Promise<BenchTrainer> {
    const { shape, precision, threads, threadsPerSlot } = choice;
    const { model, latentHeight, latentWidth, microBatch } = shape;
    const size = { model, latentHeight, latentWidth, contextTokens: contextTokens(shape.text), microBatch };
    const recompute = shape.recompute[precision];
    const engine = await native().createEngine(
      inferenceSpec(size, { precision, recompute, threads, threadsPerSlot, training: true }),
    );
    await engine.attach(await native().mapDataset(writeSyntheticData(dataFile, shape)), shape.text);
    return new BenchTrainer(engine, shape, dataFile);
  }

  private constructor(engine: Engine, shape: BenchShape, dataFile: string) {
    this.engine = engine;
    this.#globalBatch = shape.globalBatch;
    this.#slots = shape.globalBatch / shape.microBatch;
    const layout = this.engine.layout();
    this.flopsPerStep = layout.flops * this.#slots;
    this.parameters = layout.parameters;
    const config = {
      seed: 0,
      data: {
        path: dataFile,
        columns: null,
        latent_shape: null,
        text_shape: null,
        validation_rows: 0,
        synthetic_captions: 0,
        drop: { clip_l: 0.463, clip_g: 0.463, t5: 0.463 },
      },
      batch: { global: shape.globalBatch, micro: shape.microBatch, accumulate: 1 },
      validation: { every: 0, bins: 8, weights: [] },
    };
    const objective = objectiveOf({ formulation: 'rf/lognorm(0,1)', shift: 1 });
    const plan = new SamplePlan([firstSegment('0'.repeat(64), rowsOf(shape), 0, 0)]);
    this.#batches = new SlotBatches(config, objective, plan, false);
  }

  initialize(): Promise<void> {
    return this.engine.initialize(0n);
  }

  /** Whole steps (accumulate, norm, clip, AdamW) for about `seconds`, at least `steps` of them. */
  async run(seconds: number, steps: number): Promise<Round> {
    const round: Round = {
      steps: 0,
      seconds: 0,
      loss: 0,
      gatherSeconds: 0,
      computeSeconds: 0,
      updateSeconds: 0,
    };
    const started = performance.now();
    do {
      this.#step++;
      const slots = Array.from({ length: this.#slots }, (_, slot) =>
        this.#batches.training(this.#step, slot),
      );
      const computed = await this.engine.accumulate({
        slots,
        totalSlots: this.#slots,
        gradScale: 1 / this.#globalBatch,
        seed: 0n,
        step: this.#step,
        statistics: false,
        next: null,
        onBucket: () => {},
      });
      const updating = performance.now();
      const { norm, firstNonFinite } = await this.engine.gradientNorm();
      if (firstNonFinite >= 0)
        throw new Error(`step ${this.#step}: gradient element ${firstNonFinite} is not finite`);
      await this.engine.update({
        step: this.#step,
        lr: 1e-4,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weightDecay: 0.01,
        gradScale: Math.min(1, 1 / norm),
        emaDecay: 1,
      });
      round.updateSeconds += (performance.now() - updating) / 1000;
      round.gatherSeconds += computed.numbers.gather_seconds;
      round.computeSeconds += computed.numbers.compute_seconds;
      const losses = computed.slots.flatMap((slot) => [...slot.losses]);
      round.loss = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
      round.steps++;
      round.seconds = (performance.now() - started) / 1000;
    } while (round.seconds < seconds || round.steps < steps);
    return round;
  }
}
