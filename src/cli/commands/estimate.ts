/** `orchestrator estimate`: memory and time of a run, without running it. */
import type { Command } from 'commander';
import { loadConfig } from '../../config/load.js';
import { native } from '../../native/load.js';
import { estimate } from '../../planning/estimate.js';
import { renderEstimate } from '../../planning/estimate-page.js';
import { checkWorkers } from '../../step/assignment.js';
import {
  BANDWIDTH_OPTION,
  FLOPS_OPTION,
  ratesOf,
  setOption,
  type WorkersFlags,
  workersOptions,
  workersPerNode,
} from '../options.js';

interface EstimateOptions extends WorkersFlags {
  set: string[];
  flops?: number;
  bandwidth?: number;
  json?: true;
}

export function register(program: Command): void {
  const [nodes, nprocPerNode] = workersOptions();
  program
    .command('estimate')
    .description(
      'print parameters, memory by part, FLOPs and time of a run; needs no data set if the config has its shapes',
    )
    .argument('<config>', 'YAML file')
    .addOption(nodes)
    .addOption(nprocPerNode)
    .addOption(setOption())
    .option(...FLOPS_OPTION)
    .option(...BANDWIDTH_OPTION)
    .option('--json', 'print JSON')
    .action(run);
}

async function run(path: string, options: EstimateOptions): Promise<void> {
  const rates = ratesOf(options);
  const config = loadConfig(path, options.set);
  const workers = options.nodes * (await workersPerNode(native(), config, options));
  checkWorkers(config, workers);
  const result = await estimate(native(), config, workers, rates);
  process.stdout.write(
    options.json
      ? `${JSON.stringify(result, null, 2)}\n`
      : renderEstimate(result, config.schedule.steps, rates),
  );
}
