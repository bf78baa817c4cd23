/** `orchestrator estimate`: memory and time of a run before anything is bought or started. */
import type { Command } from 'commander';
import { loadConfig } from '../../config/load.js';
import { native } from '../../native/load.js';
import { estimate } from '../../planning/estimate.js';
import { renderEstimate } from '../../planning/estimate-page.js';
import { checkNodes } from '../../step/assignment.js';
import { nodeCount } from '../arguments.js';
import { BANDWIDTH_OPTION, FLOPS_OPTION, ratesOf, setOption } from '../options.js';

interface EstimateOptions {
  nodes: number;
  set: string[];
  flops?: number;
  bandwidth?: number;
  json?: true;
}

export function register(program: Command): void {
  program
    .command('estimate')
    .description(
      'parameters, memory by part, FLOPs and time of a run; needs no data set where the config has its shapes',
    )
    .argument('<config>', 'YAML file')
    .option('--nodes <n>', 'number of workers', nodeCount, 1)
    .addOption(setOption())
    .option(...FLOPS_OPTION)
    .option(...BANDWIDTH_OPTION)
    .option('--json', 'print JSON')
    .action(run);
}

async function run(path: string, options: EstimateOptions): Promise<void> {
  const rates = ratesOf(options);
  const config = loadConfig(path, options.set);
  checkNodes(config, options.nodes);
  const result = await estimate(native(), config, options.nodes, rates);
  process.stdout.write(
    options.json
      ? `${JSON.stringify(result, null, 2)}\n`
      : renderEstimate(result, config.schedule.steps, rates),
  );
}
