/** `orchestrator profile`: time of each operation of a step, and its memory. */
import type { Command } from 'commander';
import { loadConfig } from '../../config/load.js';
import type { Config } from '../../config/schema.js';
import { OrchestratorError } from '../../errors.js';
import { native } from '../../native/load.js';
import { dryProfile } from '../../planning/dry-profile.js';
import { renderDryProfile } from '../../planning/dry-profile-page.js';
import { estimate } from '../../planning/estimate.js';
import { memoryTables } from '../../planning/estimate-page.js';
import { profile } from '../../planning/profile.js';
import { renderProfile } from '../../planning/profile-page.js';
import { repeatCount } from '../arguments.js';
import { BANDWIDTH_OPTION, FLOPS_OPTION, ratesOf, setOption } from '../options.js';

interface ProfileOptions {
  set: string[];
  repeats?: number;
  dry?: true;
  flops?: number;
  bandwidth?: number;
  json?: true;
}

export function register(program: Command): void {
  program
    .command('profile')
    .description(
      'print time, FLOP/s and bytes/s of every operation against the roofline of this machine, and the memory plan',
    )
    .argument('<config>', 'YAML file')
    .addOption(setOption())
    .option('--repeats <n>', 'passes to average (default: as many as take about three seconds)', repeatCount)
    .option(
      '--dry',
      'run nothing; print the operations of a step, their work and bytes, and the memory plan, for any machine',
    )
    .option(FLOPS_OPTION[0], `with --dry: ${FLOPS_OPTION[1]}`, FLOPS_OPTION[2])
    .option(BANDWIDTH_OPTION[0], `with --dry: ${BANDWIDTH_OPTION[1]}`, BANDWIDTH_OPTION[2])
    .option('--json', 'print JSON')
    .action(run);
}

async function run(path: string, options: ProfileOptions): Promise<void> {
  const config = loadConfig(path, options.set);
  if (options.dry) return dry(config, options);
  if (options.flops !== undefined || options.bandwidth !== undefined) {
    throw new OrchestratorError(
      'ERR_USAGE',
      '--flops and --bandwidth need --dry; without it they are measured',
    );
  }
  const addon = native();
  const { levels, ...memory } = await estimate(addon, config, 1, null);
  const result = await profile(addon, config, options.repeats ?? null);
  if (options.json) {
    process.stdout.write(
      `${JSON.stringify({ ...result, memory: memory.memory, gpuMemory: memory.gpuMemory, levels }, null, 2)}\n`,
    );
    return;
  }
  process.stdout.write(`${renderProfile(result)}\n${memoryTables(memory, 'a worker').join('\n')}\n`);
}

async function dry(config: Config, options: ProfileOptions): Promise<void> {
  if (options.repeats !== undefined) {
    throw new OrchestratorError('ERR_USAGE', '--repeats cannot be combined with --dry, which runs nothing');
  }
  const result = await dryProfile(native(), config, ratesOf(options));
  process.stdout.write(
    options.json
      ? `${JSON.stringify(result, null, 2)}\n`
      : `${renderDryProfile(result)}\n${memoryTables(result, 'a worker').join('\n')}\n`,
  );
}
