/** The training loop of one worker. One iteration is one step, in order from top to bottom. */
import type { AccumulateResult } from '../native/contract.js';
import { readCoefficient } from '../objective/formulations.js';
import type { FromWorker } from '../rpc/proto.js';
import { emaDecay, learningRate } from '../step/learning-rate.js';
import type { TrainingSlot } from '../step/slot.js';
import { findNonFinite } from './non-finite.js';
import type { Generation } from './setup.js';
import { validate } from './validation.js';

/** Trains from `firstStep` until the coordinator stops the run, and returns the last step. */
export async function train(generation: Generation, firstStep: number): Promise<number> {
  const { config, engine, batches, session, collective, saver, processMetrics } = generation;
  const seed = BigInt(config.seed);
  let updateSeconds = 0;

  for (let step = firstStep; ; step++) {
    const started = performance.now();

    // Prepare: rows and random draws of this worker's slots, which depend on the step number alone.
    const slots = generation.slots.map((slot) => batches.training(step, slot));

    // Accumulate: forward and backward of every slot. Complete gradient buckets are sent while backward still
    // runs.
    collective.begin(step, () => ({ parts: engine.gradientParts(), sum: engine.gradient() }));
    const computed = await engine.accumulate({
      slots,
      totalSlots: generation.totalSlots,
      gradScale: 1 / config.batch.global,
      seed,
      step,
      statistics: sampled(config.telemetry.attention_every, step),
      next: batches.training(step + 1, generation.slots[0]!),
      onBucket: collective.announce,
    });

    // Exchange: wait for the rest of the all-reduce. In shared memory and between GPUs, reduce() does all of
    // it.
    const exchangeStarted = performance.now();
    const { bytes } = await collective.finish();
    const { norm, firstNonFinite, receivedBytes } = await engine.reduce();
    const exchangeSeconds = (performance.now() - exchangeStarted) / 1000;

    // Prepared: nothing has changed yet. The step is committed if all workers have the same finite gradient.
    const nonFinite = firstNonFinite < 0 ? [] : await findNonFinite(generation, slots, step);
    session.send({
      prepared: {
        step,
        slots: slotReports(slots, computed),
        gradientNorm: norm,
        nonFinite,
        attention: attentionReport(computed),
        times: {
          totalSeconds: (performance.now() - started) / 1000,
          gatherSeconds: computed.gatherSeconds,
          computeSeconds: computed.computeSeconds,
          exchangeSeconds,
          updateSeconds,
          exchangeBytes: bytes + receivedBytes,
        },
        ...processMetrics.read(engine),
      },
    });
    const commit = await session.next('commit');

    // Update: AdamW and EMA, the same on every worker. Workers that share memory share the work.
    const updateStarted = performance.now();
    const { optimizer } = config;
    await engine.update({
      step,
      lr: learningRate(config, step),
      beta1: optimizer.betas[0],
      beta2: optimizer.betas[1],
      eps: optimizer.eps,
      weightDecay: optimizer.weight_decay,
      gradScale: norm > optimizer.clip_norm ? optimizer.clip_norm / norm : 1,
      emaDecay: emaDecay(config, step),
    });
    updateSeconds = (performance.now() - updateStarted) / 1000;

    // Whatever the coordinator requested: a digest of the state, a validation, a checkpoint.
    if (commit.hash) {
      session.send({ applied: { step, stateHash: await engine.digest() } });
    }
    if (commit.validate)
      session.send({ validated: { step, losses: await validate(validationOptions(generation)) } });
    if (commit.checkpoint && generation.rank === 0) await saver.save(step);
    if (commit.stop) return step;
  }
}

function sampled(every: number, step: number): boolean {
  return every > 0 && step % every === 0;
}

function slotReports(slots: readonly TrainingSlot[], computed: AccumulateResult) {
  return slots.map(({ slot, rows, times, coefficients }, i) => {
    const losses = computed.slots[i]!.losses;
    return {
      slot,
      losses: Array.from(losses, (loss, i) => loss * readCoefficient(coefficients, i, 'weight')),
      times: [...times],
      samples: [...rows],
    };
  });
}

function attentionReport({
  statistics,
}: AccumulateResult): NonNullable<NonNullable<FromWorker['prepared']>['attention']> {
  if (statistics === null) return [];
  return statistics.names.map((name, i) => ({
    name,
    maxAbsLogit: statistics.maxAbsLogit[i]!,
    meanEntropy: statistics.meanEntropy[i]!,
  }));
}

function validationOptions({ engine, validation, config, rank, ranks, training }: Generation) {
  return {
    engine,
    slots: validation,
    weights: config.validation.weights,
    seed: BigInt(config.seed),
    rank,
    ranks,
    group: 2 * training.spec.threads,
  };
}
