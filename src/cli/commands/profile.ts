/** `orchestrator profile`: time of each operation of a step, and its memory. */
import type { Command } from 'commander';
import { loadConfigWithSources } from '../../config/load.js';
import type { Config } from '../../config/schema.js';
import { OrchestratorError } from '../../errors.js';
import { native } from '../../native/load.js';
import { plannedConfig } from '../../planning/data-shapes.js';
import { dryProfile } from '../../planning/dry-profile.js';
import { estimate, type Rates } from '../../planning/estimate.js';
import { memoryTables } from '../../planning/estimate-page.js';
import { profile } from '../../planning/profile.js';
import { renderDryProfile, renderProfile } from '../../planning/profile-page.js';
import { repeatCount } from '../arguments.js';
import { configArgument, ratesOf, ratesOptions } from '../options.js';
import { printResult, screenColumns } from '../output.js';

interface ProfileFlags extends Partial<Rates> {
  set: string[];
  repeats?: number;
  dry?: true;
  json?: true;
}

export function register(program: Command): void {
  const command = program
    .command('profile')
    .description(
      'print time, FLOP/s and bytes/s of every operation against the roofline of this machine, and the memory plan',
    );
  configArgument(command)
    .option('--repeats <n>', 'passes to average (default: as many as take about three seconds)', repeatCount)
    .option(
      '--dry',
      'run nothing; print the operations of a step, their work and bytes, and the memory plan, for any machine; with --flops and --bandwidth also the times',
    );
  ratesOptions(command).option('--json', 'print JSON').action(run);
}

async function run(path: string, flags: ProfileFlags): Promise<void> {
  const config = await plannedConfig(loadConfigWithSources(path, flags.set));
  if (flags.dry) return dry(config, flags);
  if (flags.flops !== undefined || flags.bandwidth !== undefined) {
    throw new OrchestratorError(
      'ERR_USAGE',
      '--flops and --bandwidth need --dry; without it they are measured',
    );
  }
  const { level, memory, gpuMemory, levels } = await estimate(native(), config, 1, null);
  const measured = await profile(native(), config, flags.repeats ?? null);
  printResult({ ...measured, level, memory, gpuMemory, levels }, flags.json, (result) =>
    withMemory(renderProfile(result, screenColumns()), result),
  );
}

async function dry(config: Config, flags: ProfileFlags): Promise<void> {
  if (flags.repeats !== undefined) {
    throw new OrchestratorError('ERR_USAGE', '--repeats cannot be combined with --dry, which runs nothing');
  }
  printResult(await dryProfile(native(), config, ratesOf(flags)), flags.json, (result) =>
    withMemory(renderDryProfile(result, screenColumns()), result),
  );
}

function withMemory(page: string, memory: Parameters<typeof memoryTables>[0]): string {
  return `${page}\n${memoryTables(memory, 'a worker').join('\n')}\n`;
}
