/** An estimate as a page of text. */
import { type MemoryPart, totalBytes } from '../memory/parts.js';
import { releasedName } from '../model/released.js';
import { describeModel } from '../model/tensors.js';
import { alignedRows } from '../text/columns.js';
import { byteCount, bytes, flopCount, timeSpent } from '../text/quantities.js';
import type { Estimate, Rates } from './estimate.js';

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const integer = (value: number) => value.toLocaleString('en-US');

function memoryLines(parts: readonly MemoryPart[]): string[] {
  const total = { name: 'total', bytes: totalBytes(parts) };
  return alignedRows([...parts, total].map(({ name, bytes: size }) => [`  ${name}`, bytes(size)]));
}

/** The memory of a worker as tables, the GPU's first. */
export function memoryTables({ level, memory, gpuMemory }: MemoryTables, whose: string): string[] {
  const heading = `memory of ${whose} with activation_checkpointing: ${level}`;
  if (gpuMemory === null) return [heading, ...memoryLines(memory)];
  return [`GPU ${heading}`, ...memoryLines(gpuMemory), '', 'memory of its process', ...memoryLines(memory)];
}
type MemoryTables = Pick<Estimate, 'level' | 'memory' | 'gpuMemory'>;

export function renderEstimate(estimate: Estimate, steps: number, rates: Rates | null): string {
  const { spec, shapes, slots, workers } = estimate;
  const name = releasedName(spec.model);
  const image = (spec.latentHeight * spec.latentWidth) / (spec.model.patch * spec.model.patch);
  const lines = [
    `model       ${describeModel(spec.model)}${name === null ? '' : ` (${name})`}`,
    `parameters  ${integer(estimate.parameters)}, and ${integer(estimate.positions)} of the position table`,
    `data        latents ${shapes.latent.join(' x ')}, ${image} + ${spec.contextTokens} tokens (from the ${shapes.source})`,
    `precision   ${estimate.precision}, residual stream ${spec.residual}`,
    `batch       ${slots * spec.microBatch} samples = ${slots} slots x ${spec.microBatch}; ${workers} ${workers === 1 ? 'worker' : 'workers'} ${estimate.gpuMemory === null ? `of ${spec.threads} threads` : 'with a GPU each'}`,
    `work        ${flopCount(estimate.flopsPerStep)} of the model a step, ${flopCount(estimate.flopsOfRun)} for ${integer(steps)} steps`,
    '',
    ...memoryTables(estimate, 'a worker (rank 0)'),
    ...(workers === 1 ? [] : [`of all ${workers} workers ${bytes(sum(estimate.rankBytes))}`]),
    '',
    'by activation_checkpointing (activations of one slot; work as it is executed)',
    ...levelLines(estimate),
  ];
  if (rates !== null) lines.push('', ...timeLines(estimate, steps, rates));
  return `${lines.join('\n')}\n`;
}

function levelLines({ levels }: Estimate): string[] {
  const rows = levels.map(({ level, activationBytes, workerBytes, executedFlops }) => [
    `  ${level}`,
    bytes(activationBytes),
    bytes(workerBytes),
    flopCount(executedFlops),
  ]);
  return alignedRows([['', 'activations', 'worker', 'a step'], ...rows]);
}

function timeLines({ levels, workers }: Estimate, steps: number, rates: Rates): string[] {
  const rows = levels.map(({ level, time }) => {
    const { matmuls, memoryBound, update, total } = time!;
    return [
      `  ${level}`,
      timeSpent(matmuls),
      timeSpent(memoryBound),
      timeSpent(update),
      timeSpent(total),
      timeSpent(total * steps),
    ];
  });
  const peers = workers === 1 ? '' : ', the exchange of gradients not counted';
  return [
    `time at ${flopCount(rates.flops)}/s and ${byteCount(rates.bandwidth)}/s a worker${peers}`,
    ...alignedRows([['', 'matmuls', 'the rest', 'update', 'step', 'run'], ...rows]),
  ];
}
