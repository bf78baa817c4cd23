/** Checks that the workers' answers agree, before a run starts and before a step is committed. */
import { OrchestratorError } from '../errors.js';
import type { Fault } from '../fault.js';
import type { Prepared, Ready } from '../rpc/proto.js';
import { shortened } from '../text/shortened.js';
import type { Place } from './events.js';

/** Rows of a slot, and slots, that an error names. */
const LISTED = 3;

/**
 * The members whose value differs from that of the majority, so that the fault is theirs. There are none if there are
 * fewer than three members, or no value has a majority.
 */
export function oddOnes(places: readonly Place[], values: readonly unknown[]): Place[] {
  const most = values.find(
    (value) => 2 * values.filter((other) => Object.is(other, value)).length > values.length,
  );
  if (places.length < 3 || most === undefined) return [];
  return places.filter((_, rank) => !Object.is(values[rank], most));
}

/** A worker's answer of one kind. */
export interface Answer<T> {
  /** "rank 1 (pid 4242 on host)" */
  name: string;
  answer: T;
}

/** All workers must have the same state of the same run. */
export function judgeReady(
  answers: readonly Answer<Ready>[],
  expected: { configHash: string; step: number },
): Fault | null {
  const first = answers[0]!;
  const checks: { what: string; value: (ready: Ready) => string | number; expected?: string | number }[] = [
    { what: 'config', value: (ready) => ready.configHash, expected: expected.configHash },
    { what: 'step of the loaded state', value: (ready) => ready.step, expected: expected.step },
    { what: 'data set', value: (ready) => ready.datasetHash },
    { what: 'precision', value: (ready) => ready.precision },
    { what: 'state', value: (ready) => ready.stateHash },
  ];
  for (const { what, value, expected: wanted } of checks) {
    const reference = wanted ?? value(first.answer);
    for (const { name, answer } of answers) {
      if (value(answer) === reference) continue;
      const whose = wanted === undefined ? first.name : 'the coordinator';
      return new OrchestratorError(
        'ERR_STATE_MISMATCH',
        `The ${what} of ${name} is ${value(answer)}, that of ${whose} ${reference}`,
        'All workers need the same version of orchestrator, the same data set, and processors that compute alike (`orchestrator doctor`); otherwise the memory or the processor of one of the machines may be faulty',
      );
    }
  }
  return null;
}

/** A step is committed if every slot was computed once, and all workers have the same finite gradient. */
export function judgePrepared(answers: readonly Answer<Prepared>[], totalSlots: number): Fault | null {
  return (
    judgeSlots(answers, totalSlots) ?? judgeReports(answers) ?? judgeFinite(answers) ?? judgeNorms(answers)
  );
}

/** Every slot has as many rows, each with a loss, and every worker that looked at attention looked at the same. */
function judgeReports(answers: readonly Answer<Prepared>[]): Fault | null {
  const count = answers.flatMap(({ answer }) => answer.slots)[0]?.samples.length ?? 0;
  const isRow = (row: number) => Number.isSafeInteger(row) && row >= 0;
  const kinds = ({ attention }: Prepared) =>
    JSON.stringify(attention.map(({ name, stream }) => [name, stream]));
  const sampled = answers.filter(({ answer }) => answer.attention.length > 0);
  const bad =
    answers.find(({ answer }) =>
      answer.slots.some(
        ({ samples, losses }) =>
          samples.length === 0 ||
          samples.length !== count ||
          losses.length !== count ||
          !samples.every(isRow),
      ),
    ) ?? sampled.find(({ answer }) => kinds(answer) !== kinds(sampled[0]!.answer));
  if (bad === undefined) return null;
  const message = `The answer of ${bad.name} to step ${bad.answer.step} is malformed`;
  return new OrchestratorError(
    'ERR_PROTOCOL',
    message,
    'It is not of this version of orchestrator, or is damaged',
  );
}

function judgeSlots(answers: readonly Answer<Prepared>[], totalSlots: number): Fault | null {
  const slots = answers.flatMap(({ answer }) => answer.slots.map(({ slot }) => slot));
  if (slots.length === totalSlots && slots.every((slot, i) => slot === i)) return null;
  return new OrchestratorError(
    'ERR_PROTOCOL',
    `Slots 0 to ${totalSlots - 1} were expected once each, in order, but the workers reported ${slots.join(', ')}`,
    'All workers need the same version of orchestrator',
  );
}

function judgeFinite(answers: readonly Answer<Prepared>[]): Fault | null {
  const bad = answers.filter(
    ({ answer }) => answer.nonFinite.length > 0 || !Number.isFinite(answer.gradientNorm),
  );
  if (bad.length === 0) return null;
  const step = bad[0]!.answer.step;
  const culprits = bad.flatMap(({ name, answer }) =>
    answer.nonFinite.map(({ slot, tensor }) => {
      const report = answer.slots.find((candidate) => candidate.slot === slot);
      const rows = report?.samples ?? [];
      // Where the loss of some samples is finite and that of others is not, the others are to blame.
      const suspects = rows.filter((_, i) => !Number.isFinite(report?.losses[i]));
      const which = shortened((suspects.length > 0 ? suspects : rows).map(String), LISTED).join(', ');
      return `${name}, slot ${slot}, rows ${which}, first in ${tensor}`;
    }),
  );
  const sources =
    culprits.length > 0
      ? shortened(culprits, LISTED).join('; ')
      : 'the sum over finite slots, which overflows';
  return new OrchestratorError(
    'ERR_NON_FINITE',
    `Step ${step} was refused: NaN or infinity in the gradient of ${sources}`,
    'Look at these rows of the data set; `orchestrator dataset verify` finds values that are not finite. If the data are fine, the training diverges: resume with a lower optimizer.lr, a smaller optimizer.clip_norm or precision.compute: fp32, or train with model.qk_norm: rms',
  );
}

/** Equal sums have equal norms, bit for bit. This is the cheapest check that no worker has diverged. */
function judgeNorms(answers: readonly Answer<Prepared>[]): Fault | null {
  const first = answers[0]!;
  const other = answers.find(({ answer }) => !Object.is(answer.gradientNorm, first.answer.gradientNorm));
  if (other === undefined) return null;
  return new OrchestratorError(
    'ERR_STATE_MISMATCH',
    `The gradient's norm at step ${first.answer.step} is ${first.answer.gradientNorm} on ${first.name} ` +
      `but ${other.answer.gradientNorm} on ${other.name}`,
    'One of the machines may have faulty memory or a faulty processor',
  );
}
