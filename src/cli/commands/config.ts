/** `orchestrator config`: the effective value of every key, and its origin. */
import type { Command } from 'commander';
import { stringify } from 'yaml';
import { aliasOf } from '../../config/aliases.js';
import {
  defaultOf,
  expectation,
  formatPath,
  jsonSchema,
  keyPaths,
  schemaAt,
  unwrapNull,
} from '../../config/describe.js';
import { explain, type LoadedConfig, loadConfigWithSources } from '../../config/load.js';
import { show } from '../../config/value.js';
import { OrchestratorError } from '../../errors.js';
import { canonicalJson } from '../../files/json.js';
import { alignedRows, wrapped } from '../../text/columns.js';
import { nearest } from '../../text/nearest.js';
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
  config
    .command('keys')
    .description('print what keys of a configuration mean, what they expect, and their defaults')
    .argument('[key]', 'a key, a mapping such as batch, or a part of a name (default: all keys)')
    .action((key: string | undefined) => {
      process.stdout.write(renderKeys(key ?? null));
    });
}

/** Every key that a name means: the key and those below it, otherwise those with the name in theirs. */
function renderKeys(wanted: string | null): string {
  const paths = keyPaths();
  const names = paths.map(formatPath);
  const below = names.filter((name) => name === wanted || name.startsWith(`${wanted}.`));
  const shown =
    wanted === null ? names : below.length > 0 ? below : names.filter((name) => name.includes(wanted));
  if (shown.length === 0) {
    const near = nearest(wanted!, names);
    const suggestion = aliasOf(wanted!) ?? (near === null ? null : `did you mean ${near}`);
    throw new OrchestratorError(
      'ERR_USAGE',
      `There is no key ${wanted}${suggestion === null ? '' : `; ${suggestion}`}`,
    );
  }
  const lines = paths
    .filter((path) => shown.includes(formatPath(path)))
    .flatMap((path) => {
      const node = schemaAt(path)!;
      const parent = path.length === 1 ? jsonSchema() : unwrapNull(schemaAt(path.slice(0, -1))!).node;
      const text = defaultOf(node);
      const given = parent.required?.includes(path.at(-1)!)
        ? '; required'
        : text === null
          ? ''
          : `; default ${text}`;
      return [
        `${formatPath(path)}: ${expectation(node)}${given}`,
        ...wrapped(node.description ?? '', 100, '    '),
      ];
    });
  return `${lines.join('\n')}\n`;
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
