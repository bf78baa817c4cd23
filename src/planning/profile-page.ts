/** A profile as a page of text. */
import { describeModel } from '../model/tensors.js';
import { alignedRows } from '../text/columns.js';
import { duration, flopRate, timeSpent } from '../text/quantities.js';
import type { OpProfile, Profile } from './profile.js';

export const percent = (value: number) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
const byteRate = (perSecond: number) => `${(perSecond / 1e9).toFixed(1)} GB/s`;

export function renderProfile(profile: Profile): string {
  const { spec, gpu, roofline, seconds, modelFlops } = profile;
  const image = (spec.latentHeight * spec.latentWidth) / (spec.model.patch * spec.model.patch);
  return `${[
    `model       ${describeModel(spec.model)}`,
    `slot        ${spec.microBatch} samples of ${image} + ${spec.contextTokens} tokens, forward and backward, ${gpu ?? 'one thread'}`,
    `precision   ${profile.precision}, residual stream ${spec.residual}, activation_checkpointing ${spec.recompute}`,
    `roofline    matmuls ${flopRate(roofline.flops)}, copies ${byteRate(roofline.bandwidth)} (read and written), measured in this run`,
    `pass        ${duration(seconds)} of ${gpu === null ? 'processor' : 'GPU'} time (${profile.repeats} averaged), ${flopRate(modelFlops / seconds)} of the model: ${percent(profile.utilization)} of the matmul peak`,
    '',
    ...alignedRows([
      ['operation', 'count', 'time', 'share', 'FLOP/s', 'bytes/s', 'of roofline', 'bound by'],
      ...profile.ops.map(line),
    ]),
    'more than 100 %: operands that were still in caches',
  ].join('\n')}\n`;
}

function line(op: OpProfile): string[] {
  return [
    op.name,
    String(op.count),
    timeSpent(op.seconds),
    percent(op.share),
    op.flops === 0 ? '-' : flopRate(op.flops / op.seconds),
    byteRate(op.bytes / op.seconds),
    percent(op.ofRoofline),
    op.bound,
  ];
}
