/** A dry profile as a page of text. */
import { describeModel } from '../model/tensors.js';
import { alignedRows } from '../text/columns.js';
import { byteCount, flopCount, flopRate, timeSpent } from '../text/quantities.js';
import { type DryOp, type DryProfile, total } from './dry-profile.js';
import { percent } from './profile-page.js';

export function renderDryProfile(profile: DryProfile): string {
  const { spec, rates, ops, step, slots, modelFlops } = profile;
  const image = (spec.latentHeight * spec.latentWidth) / (spec.model.patch * spec.model.patch);
  const count = slots === 1 ? 'its slot' : `its ${slots} slots`;
  const timed = rates !== null;
  return `${[
    `model       ${describeModel(spec.model)}`,
    `slot        ${spec.microBatch} samples of ${image} + ${spec.contextTokens} tokens, forward and backward; nothing was run`,
    `precision   ${profile.precision}, residual stream ${spec.residual}, activation_checkpointing ${spec.recompute}`,
    ...(timed
      ? [
          `rates       matmuls ${flopCount(rates.flops)}/s, memory ${byteCount(rates.bandwidth)}/s (read and written), as given`,
        ]
      : []),
    `work        ${flopCount(modelFlops)} of the model a slot, ${flopCount(total(ops, 'flops'))} as it is executed`,
    '',
    ...table('operations of a slot', ops, timed),
    '',
    ...table(`a step of one worker with ${count}`, step, timed),
    ...(timed ? [utilization(profile)] : []),
  ].join('\n')}\n`;
}

function table(heading: string, ops: readonly DryOp[], timed: boolean): string[] {
  const all = total(ops, 'seconds');
  const cells = (op: Omit<DryOp, 'count'>, count: string) => [
    op.name,
    count,
    op.flops === 0 ? '-' : flopCount(op.flops),
    byteCount(op.bytes),
    ...(timed ? [timeSpent(op.seconds ?? 0), percent((op.seconds ?? 0) / all), op.bound ?? ''] : []),
  ];
  const sum: Omit<DryOp, 'count'> = {
    name: 'total',
    flops: total(ops, 'flops'),
    bytes: total(ops, 'bytes'),
    seconds: timed ? all : null,
    bound: null,
  };
  return alignedRows([
    [heading, 'count', 'work', 'bytes', ...(timed ? ['least time', 'share', 'bound by'] : [])],
    ...ops.map((op) => cells(op, String(op.count))),
    cells(sum, ''),
  ]);
}

function utilization({ rates, step, slots, modelFlops }: DryProfile): string {
  const perSecond = (slots * modelFlops) / total(step, 'seconds');
  return `at most ${flopRate(perSecond)} of the model: ${percent(perSecond / rates!.flops)} of the matmuls' rate`;
}
