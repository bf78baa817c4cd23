/** The training loop of one worker. One iteration is one step, in order from top to bottom. */

import { faultPoint } from '../fault-points.js';
import type { AccumulateResult } from '../native/contract.js';
import { readCoefficient } from '../objective/coefficients.js';
import type { Orders } from '../rpc/proto.js';
import { emaDecay } from '../step/ema.js';
import { learningRate } from '../step/learning-rate.js';
import type { TrainingSlot } from '../step/slot.js';
import type { WorkerNumbers } from '../telemetry/metrics.js';
import { aborted } from './interruptions.js';
import { findNonFinite } from './non-finite.js';
import { measureProcess } from './process-metrics.js';
import type { Generation } from './setup.js';
import { isSkipped, skipNonFinite } from './skip.js';
import { attentionReport, gradientNorms } from './statistics.js';
import { validate } from './validation.js';

/** From then on a GPU replays recordings, and allocates nothing. */
const WARM_STEPS = 3;

/**
 * Trains until the coordinator stops the run and all checkpoints are written, or until the next generation
 * forms, which is told by an error, when the engine is idle.
 *
 * @param start What is to be done with the state as it is, before the first step.
 */
export async function train(generation: Generation, start: Orders): Promise<void> {
  const { config, engine, rows, batches, session, form, collective, saver, held } = generation;
  const { firstSlot, endSlot } = form.members[form.rank]!;
  const processNumbers = measureProcess(engine);
  const seed = BigInt(config.seed);
  const sampleEvery = config.telemetry.attention_every;
  const isFirst = form.rank === 0;
  let done = 0;
  let commitSeconds = 0;
  let updateSeconds = 0;

  for (let orders = start; ; ) {
    // Orders: what is due with the state as it is after the last step.
    await carryOut(orders, generation);
    if (orders.stop) return await Promise.race([saver.settled(), aborted(session.regrouped)]);
    session.regrouped.throwIfAborted();
    const step = orders.step + 1;
    const started = performance.now();
    session.validated = 0;

    // Prepare: rows and random draws of this worker's slots, which depend on the step number alone.
    const slots = Array.from({ length: endSlot - firstSlot }, (_, i) =>
      batches.training(step, firstSlot + i),
    );

    faultPoint('prepare', step);
    const sampled = sampleEvery > 0 && step % sampleEvery === 0;
    const next = batches.training(step + 1, firstSlot);
    if (config.data.on_non_finite === 'skip') await skipNonFinite(rows, [...slots, next]);

    // Accumulate: forward and backward of every slot. Complete gradient buckets are sent while backward still
    // runs.
    const onBucket = collective.begin(step);
    const accumulateStarted = performance.now();
    const computed = await engine.accumulate({
      slots,
      totalSlots: form.members.at(-1)!.endSlot,
      gradScale: 1 / config.batch.global,
      seed,
      step,
      statistics: sampled,
      next,
      onBucket,
    });

    // Exchange: the all-reduce, or the rest of it.
    const exchangeStarted = performance.now();
    faultPoint('reduce', step);
    const { norm, firstNonFinite, receivedBytes } = await collective.reduce();
    const exchangeSeconds = (performance.now() - exchangeStarted) / 1000;

    // Prepared: nothing has changed yet. The step is committed if all workers have the same finite gradient.
    const finite = firstNonFinite < 0;
    const nonFinite = finite ? [] : await findNonFinite(generation, slots, step);
    session.send({
      prepared: {
        step,
        slots: slotReports(slots, computed),
        gradientNorm: norm,
        nonFinite,
        attention: await attentionReport(engine, computed, isFirst),
        gradientNorms: sampled && isFirst && finite ? await gradientNorms(engine) : {},
        numbers: {
          total_seconds: (performance.now() - started) / 1000,
          accumulate_seconds: (exchangeStarted - accumulateStarted) / 1000,
          exchange_seconds: exchangeSeconds,
          commit_seconds: commitSeconds,
          update_seconds: updateSeconds,
          exchange_bytes: receivedBytes,
          ...computed.numbers,
          ...processNumbers(),
        } satisfies WorkerNumbers,
      },
    });
    const prepared = performance.now();
    faultPoint('prepared', step);
    orders = await session.next('commit');
    faultPoint('commit', step);
    commitSeconds = (performance.now() - prepared) / 1000;

    // Update: the optimizer and the EMA, the same on every worker. Workers that share memory share the work.
    const updateStarted = performance.now();
    const { optimizer } = config;
    Object.assign(held, { step: null, ofRun: step });
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
    held.step = step;
    faultPoint('updated', step);
    updateSeconds = (performance.now() - updateStarted) / 1000;
    done += 1;
    // The first steps allocate memory of the GPU, which would wait for memory that is page-locked meanwhile.
    if (done === WARM_STEPS && isFirst && config.checkpoint.every > 0) engine.prepareSnapshot();
  }
}

/**
 * The coordinator publishes a checkpoint when the digests of all workers' state are equal, and all have validated the
 * step if they were to: who resumes from it does not do that again.
 */
async function carryOut(orders: Orders, generation: Generation): Promise<void> {
  const { config, engine, session, form, saver } = generation;
  const { step } = orders;
  const isFirst = form.rank === 0;
  if (orders.checkpoint) session.send({ applied: { step, stateHash: await engine.digest() } });
  faultPoint('applied', step);
  if (orders.validate) {
    const started = performance.now();
    const losses = await validate(generation, step);
    const measures = losses !== null && isFirst && config.ema !== null;
    const emaDistance = measures ? await engine.emaDistance() : 0;
    const seconds = (performance.now() - started) / 1000;
    session.send({
      validated: { step, losses: losses ?? [], seconds, abandoned: losses === null, emaDistance },
    });
  }
  faultPoint('validated', step);
  if (orders.checkpoint && isFirst) await saver.save(step);
  faultPoint('saving', step);
}

function slotReports(slots: readonly TrainingSlot[], computed: AccumulateResult) {
  return slots.map(({ slot, rows, coefficients, dropped }, i) => {
    const losses = computed.slots[i]!.losses;
    return {
      slot,
      losses: Array.from(losses, (loss, i) => loss * readCoefficient(coefficients, i, 'weight')),
      samples: [...rows],
      skipped: [...rows].filter((_, i) => isSkipped(dropped, i)),
      times: Array.from(rows, (_, i) => timeOf(coefficients, i)),
    };
  });
}

/** b / (a + b): t of rectified flow, and on another path the t at which rectified flow has as much noise. */
function timeOf(coefficients: Float32Array, i: number): number {
  const [a, b] = [readCoefficient(coefficients, i, 'a'), readCoefficient(coefficients, i, 'b')];
  return b / (a + b);
}
