/** Profiles, measured and dry, as pages of text. */
import { describeModel } from '../model/tensors.js';
import type { EngineSpec } from '../native/contract.js';
import { namedRows, screenRows } from '../text/columns.js';
import { byteCount, duration, flopCount, flopRate } from '../text/quantities.js';
import { type DryOp, type DryProfile, total } from './dry-profile.js';
import { describeTokens } from './estimate-page.js';
import type { Profile } from './profile.js';

const percent = (value: number) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
const byteRate = (perSecond: number) => `${(perSecond / 1e9).toFixed(1)} GB/s`;

/** What both kinds of profiles say first: the model, its micro-batch and the precision. */
function facts({ spec, precision }: { spec: EngineSpec; precision: string }, where: string) {
  const { model, microBatch, residual, recompute } = spec;
  return {
    model: describeModel(model),
    'micro-batch': `${microBatch} samples of ${describeTokens(spec)}, forward and backward${where}`,
    precision: `${precision}, residual stream ${residual}, activation_checkpointing ${recompute}`,
  };
}

export function renderProfile(profile: Profile, columns: number): string {
  const { gpu, attention, roofline, seconds, modelFlops } = profile;
  const ofModel = `${flopRate(modelFlops / seconds)} of the model: ${percent(profile.utilization)} of the matmul peak`;
  const header = ['operation', 'count', 'time', 'share', 'FLOP/s', 'bytes/s', 'of roofline', 'bound by'];
  const rows = profile.ops.map((op) => [
    op.name,
    String(op.count),
    duration(op.seconds),
    percent(op.share),
    op.flops === 0 ? '-' : flopRate(op.flops / op.seconds),
    byteRate(op.bytes / op.seconds),
    percent(op.ofRoofline),
    op.bound,
  ]);
  const pass = `${duration(seconds)} of ${gpu === null ? 'processor' : 'GPU'} time (${profile.repeats} averaged)`;
  const copies = `copies ${byteRate(roofline.bandwidth)} (read and written)`;
  return `${[
    ...namedRows({
      ...facts(profile, `, ${gpu ?? 'one thread'}`),
      ...(attention !== null && { attention }),
      roofline: `matmuls ${flopRate(roofline.flops)}, ${copies}, measured in this run`,
      pass: `${pass}, ${ofModel}`,
    }),
    '',
    ...screenRows([header, ...rows], columns),
    'more than 100 %: operands that were still in caches',
  ].join('\n')}\n`;
}

export function renderDryProfile(profile: DryProfile, columns: number): string {
  const { rates, ops, step, slots, accumulate, modelFlops } = profile;
  const timed = rates !== null;
  const memory = `memory ${byteCount(rates?.bandwidth ?? 0)}/s (read and written)`;
  const executed = `${flopCount(total(ops, 'flops'))} as it is executed`;
  const each = accumulate === 1 ? '' : ` of ${accumulate} micro-batches`;
  const lines = [
    ...namedRows({
      ...facts(profile, '; nothing was run'),
      ...(timed && { rates: `matmuls ${flopCount(rates.flops)}/s, ${memory}, as given` }),
      work: `${flopCount(modelFlops)} of the model a micro-batch, ${executed}`,
    }),
    '',
    ...dryTable('operations of a micro-batch', ops, timed, columns),
    '',
    ...dryTable(
      `a step of one worker with its ${slots === 1 ? 'slot' : `${slots} slots`}${each}`,
      step,
      timed,
      columns,
    ),
  ];
  if (timed) {
    const perSecond = (slots * accumulate * modelFlops) / total(step, 'seconds');
    const share = percent(perSecond / rates.flops);
    lines.push(`at most ${flopRate(perSecond)} of the model: ${share} of the matmuls' rate`);
  }
  return `${lines.join('\n')}\n`;
}

function dryTable(heading: string, ops: readonly DryOp[], timed: boolean, columns: number): string[] {
  const [flops, bytes, seconds] = [total(ops, 'flops'), total(ops, 'bytes'), total(ops, 'seconds')];
  const rows = [...ops, { name: 'total', count: '', flops, bytes, seconds, bound: null }].map((op) => [
    op.name,
    String(op.count),
    op.flops === 0 ? '-' : flopCount(op.flops),
    byteCount(op.bytes),
    ...(timed ? [duration(op.seconds ?? 0), percent((op.seconds ?? 0) / seconds), op.bound ?? ''] : []),
  ]);
  const times = timed ? ['least time', 'share', 'bound by'] : [];
  return screenRows([[heading, 'count', 'work', 'bytes', ...times], ...rows], columns);
}
