/** `orchestrator launch`: trains on this machine. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { loadConfig } from '../../config/load.js';
import { refuse } from '../../errors.js';
import { renderDryRun } from '../../launch/dry-run.js';
import { LAUNCHERS } from '../../launch/launcher.js';
import { preflight } from '../../launch/preflight.js';
import { type LaunchOptions, workersOf } from '../../launch/processes.js';
import { roomOf } from '../../launch/room.js';
import { superviseRun } from '../../launch/supervise.js';
import { native } from '../../native/load.js';
import { checkWorkers } from '../../step/assignment.js';
import { memorySize } from '../arguments.js';
import { configArgument, type WorkersFlags, workersOptions, workersPerNode } from '../options.js';
import { ignoreOutputErrors } from '../output.js';

interface LaunchFlags extends WorkersFlags {
  resume: string;
  runDir?: string;
  set: string[];
  memory?: number;
  dryRun?: true;
}

export function register(program: Command): void {
  const command = program
    .command('launch')
    .description('train on this machine: start a coordinator and its workers, one process each');
  workersOptions(configArgument(command))
    .option('--resume <auto|never|path>', 'checkpoint to resume from; auto = the latest valid one', 'auto')
    .option('--run-dir <dir>', 'folder of the run (default: runs/NAME)')
    .option(
      '--memory <size>',
      'memory available to the run, such as 24GiB (default: that of this machine and its control group)',
      memorySize,
    )
    .option('--dry-run', 'print ranks, slots, memory and commands without starting anything')
    .action(async (configPath: string, flags: LaunchFlags) => {
      const config = loadConfig(configPath, flags.set);
      const options: LaunchOptions = {
        nodes: flags.nodes,
        workersPerNode: await workersPerNode(native(), config, flags),
        device: config.device,
        configPath,
        runDir: flags.runDir ?? join('runs', config.name),
        resume: flags.resume,
        overrides: flags.set,
      };
      const workers = workersOf(options);
      checkWorkers(config, workers);
      const { memory = null, dryRun: dry = false } = flags;
      const found = await preflight(native(), config, { workers, memory, dry });
      const room = await roomOf(config, found.figures, options.runDir);
      if (dry) process.stdout.write(renderDryRun(options, LAUNCHERS.local, config, found, room));
      const { shortages, noGpu, noData, warnings } = found;
      // With another machine's memory, or without a GPU here, a dry run is for another machine and its disk.
      const disk = dry && (memory !== null || noGpu !== null) ? null : room;
      for (const warning of [...warnings, disk?.warning ?? null]) {
        if (warning !== null) process.stderr.write(`warn ${warning}\n`);
      }
      const problems = [...shortages, disk?.refusal ?? null, ...(dry ? [] : [noGpu, noData])];
      refuse(problems.filter((problem) => problem !== null));
      if (dry) return;
      ignoreOutputErrors();
      process.exitCode = await superviseRun(options, LAUNCHERS.local);
    });
}
