/** An estimate as a page of text. */

import { describeBatch } from '../config/derived.js';
import type { Config } from '../config/schema.js';
import { type MemoryPart, totalBytes } from '../memory/parts.js';
import { releasedName } from '../model/released.js';
import { describeModel } from '../model/tensors.js';
import type { EngineSpec } from '../native/contract.js';
import { alignedRows, namedRows } from '../text/columns.js';
import { byteCount, bytes, counted, duration, flopCount } from '../text/quantities.js';
import type { Estimate, Rates } from './estimate.js';

const integer = (value: number) => value.toLocaleString('en-US');

/** "256 + 154 tokens": of the image and of its text. */
export function describeTokens({ latentHeight, latentWidth, contextTokens, model }: EngineSpec): string {
  return `${(latentHeight * latentWidth) / (model.patch * model.patch)} + ${contextTokens} tokens`;
}

function memoryLines(parts: readonly MemoryPart[]): string[] {
  const total = { name: 'total', bytes: totalBytes(parts) };
  return alignedRows([...parts, total].map(({ name, bytes: size }) => [`  ${name}`, bytes(size)]));
}

/** The memory of a worker as tables, the GPU's first. */
export function memoryTables(
  { level, memory, gpuMemory }: Pick<Estimate, 'level' | 'memory' | 'gpuMemory'>,
  whose: string,
): string[] {
  const heading = `memory of ${whose} with activation_checkpointing: ${level}`;
  if (gpuMemory === null) return [heading, ...memoryLines(memory)];
  return [`GPU ${heading}`, ...memoryLines(gpuMemory), '', 'memory of its process', ...memoryLines(memory)];
}

export function renderEstimate(estimate: Estimate, config: Config, rates: Rates | null): string {
  const { spec, shapes, workers, levels } = estimate;
  const name = releasedName(spec.model);
  const compute = estimate.gpuMemory === null ? `of ${counted(spec.threads, 'thread')}` : 'with a GPU each';
  const work = `${flopCount(estimate.flopsPerStep)} of the model a step`;
  const facts = {
    model: `${describeModel(spec.model)}${name === null ? '' : ` (${name})`}`,
    parameters: `${integer(estimate.parameters)}, and ${integer(estimate.positions)} of the position table`,
    data: `latents ${shapes.latent.join(' x ')}, ${describeTokens(spec)} (from the ${shapes.source})`,
    precision: `${estimate.precision}, residual stream ${spec.residual}`,
    batch: `${describeBatch(config)}; ${counted(workers, 'worker')} ${compute}`,
    work: `${work}, ${flopCount(estimate.flopsOfRun)} for ${integer(config.schedule.steps)} steps`,
  };
  const ofAll = estimate.rankBytes.reduce((sum, value) => sum + value, 0);
  return `${[
    ...namedRows(facts),
    '',
    ...memoryTables(estimate, 'a worker (rank 0)'),
    ...(workers === 1 ? [] : [`of all ${workers} workers ${bytes(ofAll)}`]),
    '',
    'by activation_checkpointing (activations of one micro-batch; work as it is executed)',
    ...alignedRows([
      ['', 'activations', 'worker', 'a step'],
      ...levels.map(({ level, activationBytes, workerBytes, executedFlops }) => [
        `  ${level}`,
        bytes(activationBytes),
        bytes(workerBytes),
        flopCount(executedFlops),
      ]),
    ]),
    ...(rates === null ? [] : ['', ...timeLines(estimate, config.schedule.steps, rates)]),
  ].join('\n')}\n`;
}

function timeLines({ levels, workers }: Estimate, steps: number, rates: Rates): string[] {
  const rows = levels.map(({ level, time }) => {
    const { matmuls, memoryBound, update, total } = time!;
    return [`  ${level}`, ...[matmuls, memoryBound, update, total, total * steps].map(duration)];
  });
  const peers = workers === 1 ? '' : ', the exchange of gradients not counted';
  return [
    `time at ${flopCount(rates.flops)}/s and ${byteCount(rates.bandwidth)}/s a worker${peers}`,
    ...alignedRows([['', 'matmuls', 'the rest', 'update', 'step', 'run'], ...rows]),
  ];
}
