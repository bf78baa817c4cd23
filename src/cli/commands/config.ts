/** `orchestrator config`: the effective value of every key, and its origin. */
import type { Command } from 'commander';
import { stringify } from 'yaml';
import { type Explanation, explain, type LoadedConfig, loadConfigWithSources } from '../../config/load.js';
import { show } from '../../config/value.js';
import { canonicalJson } from '../../files/json.js';
import { leftAlignedRows } from '../../text/columns.js';
import { setOption } from '../options.js';

interface ShowOptions {
  set: string[];
  json?: true;
  yaml?: true;
}

export function register(program: Command): void {
  const config = program.command('config').description('inspect a configuration');
  config
    .command('show')
    .description('print the effective value of every key and its origin')
    .argument('<config>', 'YAML file')
    .addOption(setOption())
    .option('--json', 'print the canonical JSON of the effective configuration instead')
    .option('--yaml', 'print the effective configuration as YAML instead')
    .action((path: string, options: ShowOptions) => {
      process.stdout.write(render(loadConfigWithSources(path, options.set), options));
    });
}

function render(loaded: LoadedConfig, options: ShowOptions): string {
  if (options.json) return `${canonicalJson(loaded.config)}\n`;
  if (options.yaml) return stringify(loaded.config);
  return table(explain(loaded));
}

function table(rows: readonly Explanation[]): string {
  const cells = rows.map(({ key, value, source, place }) => [
    key,
    typeof value === 'string' ? value : show(value),
    source === 'default' ? 'default' : place,
  ]);
  return `${leftAlignedRows(cells).join('\n')}\n`;
}
