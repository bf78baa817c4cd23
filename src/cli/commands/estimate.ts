/** `orchestrator estimate`: memory and time of a run, without running it. */
import type { Command } from 'commander';
import { loadConfigWithSources } from '../../config/load.js';
import { native } from '../../native/load.js';
import { plannedConfig } from '../../planning/data-shapes.js';
import { estimate, type Rates } from '../../planning/estimate.js';
import { renderEstimate } from '../../planning/estimate-page.js';
import { checkWorkers } from '../../step/assignment.js';
import {
  configArgument,
  ratesOf,
  ratesOptions,
  type WorkersFlags,
  workersOptions,
  workersPerNode,
} from '../options.js';
import { printResult } from '../output.js';

interface EstimateFlags extends WorkersFlags, Partial<Rates> {
  set: string[];
  json?: true;
}

export function register(program: Command): void {
  const command = program
    .command('estimate')
    .description(
      'print parameters, memory by part, FLOPs and time of a run; needs no data set if the config has its shapes',
    );
  ratesOptions(workersOptions(configArgument(command)))
    .option('--json', 'print JSON')
    .action(run);
}

async function run(path: string, flags: EstimateFlags): Promise<void> {
  const rates = ratesOf(flags);
  const config = await plannedConfig(loadConfigWithSources(path, flags.set));
  const workers = flags.nodes * (await workersPerNode(native(), config, flags));
  checkWorkers(config, workers);
  printResult(await estimate(native(), config, workers, rates), flags.json, (result) =>
    renderEstimate(result, config, rates),
  );
}
