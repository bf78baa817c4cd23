/** `orchestrator profile`: where the time of a step goes, and its memory. */
import { type Command, InvalidArgumentError } from 'commander';
import { loadConfig } from '../../config/load.js';
import { estimate } from '../../estimate/estimate.js';
import { memoryTables } from '../../estimate/render.js';
import { native } from '../../native/load.js';
import { profile } from '../../profile/profile.js';
import { renderProfile } from '../../profile/render.js';
import { setOption } from '../options.js';

interface ProfileOptions {
  set: string[];
  repeats?: number;
  json?: true;
}

export function register(program: Command): void {
  program
    .command('profile')
    .description(
      'time, FLOP/s and bytes/s of every operation against the roofline of this machine, and the memory plan',
    )
    .argument('<config>', 'YAML file')
    .addOption(setOption())
    .option('--repeats <n>', 'passes to average (default: about three seconds of them)', repeatCount)
    .option('--json', 'print JSON')
    .action(run);
}

async function run(path: string, options: ProfileOptions): Promise<void> {
  const config = loadConfig(path, options.set);
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

function repeatCount(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= 10_000) return value;
  throw new InvalidArgumentError('Expected a number from 1 to 10000.');
}
