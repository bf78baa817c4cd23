/** What a run would be: arithmetic, ranks, memory and commands, without starting anything. */
import { type Config, slotCount } from '../config/schema.js';
import { openDataset } from '../data/dataset.js';
import type { EngineLayout, EngineSpec } from '../native/contract.js';
import { native } from '../native/load.js';
import { bytes, flopRate } from '../telemetry/format.js';
import { assignSlots, localSubtrees } from '../worker/collective/tree.js';
import { trainingEngine } from '../worker/engine-spec.js';
import {
  coordinatorCommand,
  ENVIRONMENT,
  type LaunchPlan,
  shellText,
  workerCommand,
  workerId,
} from './commands.js';

export async function dryRun(plan: LaunchPlan, config: Config): Promise<string> {
  const dataset = await openDataset(config.data);
  const host = native().host();
  const { spec, precision } = trainingEngine(config, dataset, host, plan.nodes);
  // Memory is reserved, not touched, so a large model costs nothing here.
  const engine = native().createEngine(spec);
  const layout = engine.layout();
  engine.close();
  const slots = slotCount(config);
  const { batch, schedule } = config;
  const ranges = assignSlots(slots, plan.nodes);
  const trained = dataset.rows - config.data.validation_rows;
  const epochs = (schedule.steps * batch.global) / trained;
  const lines = [
    `run      ${config.name} in ${plan.runDir}, resume ${plan.resume}`,
    `machine  ${host.processors} processors, ${host.isa}, oneDNN ${host.onednn}`,
    `data     ${config.data.path}: ${dataset.rows} rows, ${config.data.validation_rows} held out`,
    `model    ${(layout.parameters / 1e6).toFixed(2)} M parameters, ${precision.compute} (${precision.reason})`,
    `batch    ${batch.global} samples = ${slots} slots x ${batch.micro}`,
    `steps    ${schedule.steps} = ${schedule.steps * batch.global} samples = ${epochs.toFixed(2)} epochs`,
    `compute  ${flopRate(layout.flopsPerSlot * slots).replace('/s', '')} of model FLOPs a step`,
    '',
    ...ranges.map(({ lo, hi }, rank) => {
      const memory = bytes(workerBytes(spec, layout, localSubtrees(lo, hi, slots).length, rank === 0));
      return `rank ${rank}   slots ${lo}-${hi - 1} (${(hi - lo) * batch.micro} samples), ${spec.threads} threads, engine about ${memory}`;
    }),
    '',
    'commands (the token is drawn anew for each run; the coordinator prints its port)',
    `  ${ENVIRONMENT.token}=TOKEN ${shellText(coordinatorCommand(plan))}`,
    ...ranges.map((_, index) => {
      const variables = [
        `${ENVIRONMENT.token}=TOKEN`,
        `${ENVIRONMENT.coordinator}=127.0.0.1:PORT`,
        `${ENVIRONMENT.workerId}=${workerId(index)}`,
      ];
      return `  ${variables.join(' ')} ${shellText(workerCommand())}`;
    }),
  ];
  return `${lines.join('\n')}\n`;
}

/**
 * Weights, moments, EMA, their bf16 copies, the sums of gradients, and one arena per thread; for the one that writes
 * checkpoints, a copy of the state.
 */
function workerBytes(spec: EngineSpec, layout: EngineLayout, parts: number, saves: boolean): number {
  const state = 3 + (spec.ema ? 1 : 0);
  const fp32 = (saves ? 2 : 1) * state + parts + spec.threads;
  const bf16 = spec.precision === 'bf16' ? (spec.ema ? 2 : 1) : 0;
  return layout.length * (4 * fp32 + 2 * bf16) + layout.arenaBytes * spec.threads;
}
