/** `orchestrator config`: the effective value of every key, and its origin. */
import type { Command } from 'commander';
import { stringify } from 'yaml';
import { explain, type LoadedConfig, loadConfigWithSources } from '../../config/load.js';
import { show } from '../../config/value.js';
import { canonicalJson } from '../../files/json.js';
import { alignedRows } from '../../text/columns.js';
import { configArgument } from '../options.js';

interface ShowFlags {
  set: string[];
  json?: true;
  yaml?: true;
}

export function register(program: Command): void {
  const config = program.command('config').description('inspect a configuration');
  configArgument(config.command('show').description('print the effective value of every key and its origin'))
    .option('--json', 'print the canonical JSON of the effective configuration instead')
    .option('--yaml', 'print the effective configuration as YAML instead')
    .action((path: string, flags: ShowFlags) => {
      process.stdout.write(render(loadConfigWithSources(path, flags.set), flags));
    });
}

function render(loaded: LoadedConfig, { json, yaml }: ShowFlags): string {
  if (json) return `${canonicalJson(loaded.config)}\n`;
  if (yaml) return stringify(loaded.config);
  const rows = explain(loaded).map(({ key, value, source, place }) => [
    key,
    typeof value === 'string' ? value : show(value),
    source === 'default' ? 'default' : place,
  ]);
  return `${alignedRows(rows, 'left').join('\n')}\n`;
}
