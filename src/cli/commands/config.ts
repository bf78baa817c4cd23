/** `orchestrator config`: the effective value of every key, and its origin; a first configuration. */
import { writeFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
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
import { explain, type LoadedConfig, loadConfigWithSources, parseConfig } from '../../config/load.js';
import { show } from '../../config/value.js';
import { describeDataset } from '../../data/dataset.js';
import { requirePatches } from '../../data/fit.js';
import { openSource } from '../../data/formats.js';
import { newDataSection, yamlText } from '../../data/new-config.js';
import { locateWeights } from '../../engine/inference.js';
import { OrchestratorError } from '../../errors.js';
import { writeFailure } from '../../files/io.js';
import { canonicalJson } from '../../files/json.js';
import { describeModel } from '../../model/tensors.js';
import { withWeights } from '../../model/weights.js';
import { alignedRows, wrapped } from '../../text/columns.js';
import { nearest } from '../../text/nearest.js';
import { shellText } from '../../text/shell.js';
import { configArgument } from '../options.js';
import { printNote, printPage, printResult, screenColumns } from '../output.js';

interface ShowFlags {
  set: string[];
  json?: true;
  yaml?: true;
}

export function register(program: Command): void {
  const config = program.command('config').description('inspect a configuration, or begin one');
  configArgument(config.command('show').description('print the effective value of every key and its origin'))
    .option('--json', 'print the canonical JSON of the effective configuration instead')
    .option('--yaml', 'print the effective configuration as YAML instead')
    .action((path: string, flags: ShowFlags) => {
      const text = render(loadConfigWithSources(path, flags.set), flags);
      if (flags.json || flags.yaml) process.stdout.write(text);
      else printPage(text);
    });
  config
    .command('new')
    .description('print a first configuration for a data set: which column is for what, and the model')
    .requiredOption('--data <dir>', 'folder of the data set')
    .option('--init <path>', 'weights to start from, which give the model')
    .option('--name <name>', "name of the run (default: the folder's)", givenName)
    .option('--out <file>', 'write it to a new file')
    .action(writeNewConfig);
  config
    .command('keys')
    .description('print what keys of a configuration mean, what they expect, and their defaults')
    .argument('[key]', 'a key, a mapping such as batch, or a part of a name (default: all keys)')
    .option('--json', 'print JSON')
    .action((key: string | undefined, { json }: { json?: true }) =>
      printResult(keysLike(key ?? null), json, renderKeys),
    );
}

/** A name for the run of a data set: the folder's, with the characters that the schema allows. */
function runName(folder: string): string {
  return basename(resolve(folder)).replace(/[^A-Za-z0-9._-]+|^[._-]+/g, '') || 'my-run';
}

function givenName(text: string): string {
  if (runName(text) === text) return text;
  throw new InvalidArgumentError('Expected a name of letters, digits, ".", "_" and "-".');
}

/** The batch of a first configuration, where the data set has as many rows. */
const [LARGEST_BATCH, MICRO_BATCH] = [64, 16];

/** The first configuration for a data set: what to train, on which columns, for how long. */
async function newConfig({ data, init, name }: { data: string; init?: string; name?: string }) {
  const { lines, notes, trainingRows } = newDataSection(openSource(data));
  // The largest power of two that the data set has rows for.
  let batch = LARGEST_BATCH;
  while (batch > 1 && batch > trainingRows) batch /= 2;
  let model = 'model: {depth: 4, hidden: 192}';
  if (init !== undefined) {
    const source = await locateWeights(init, 'master');
    await withWeights(source.path, async (weights) => {
      notes.push(`The model is that of ${init}: ${describeModel(weights.spec)}`);
    });
    model = `init: ${JSON.stringify(init)}`;
  }
  const text = [
    `name: ${yamlText(name ?? runName(data))}`,
    ...lines,
    model,
    `batch: {global: ${batch}, micro: ${Math.min(MICRO_BATCH, batch)}}`,
    `optimizer: {lr: ${init === undefined ? '0.001' : '0.0001'}}`,
    'schedule: {steps: 10000, warmup: 500}',
    '',
  ].join('\n');
  const problem = problemOf(text);
  if (problem !== null) notes.push(`Before it can be used: ${problem}`);
  return { text, notes };
}

/** What keeps a configuration's data set from being trained on; null if nothing does. */
function problemOf(text: string): string | null {
  try {
    const config = parseConfig(text, 'the configuration');
    requirePatches(describeDataset(config.data), config);
    return null;
  } catch (error) {
    if (error instanceof OrchestratorError) return [error.message, error.hint].filter(Boolean).join('. ');
    throw error;
  }
}

async function writeNewConfig(flags: { data: string; init?: string; name?: string; out?: string }) {
  const { text, notes } = await newConfig(flags);
  for (const note of notes) printNote(`note: ${note}`);
  if (flags.out === undefined) {
    process.stdout.write(text);
    return;
  }
  try {
    await writeFile(flags.out, text, { flag: 'wx' });
  } catch (cause) {
    throw writeFailure(flags.out, cause);
  }
  process.stdout.write(
    `${flags.out}: next, ${shellText(['orchestrator', 'dataset', 'verify', '--config', flags.out])} and ${shellText(['orchestrator', 'launch', flags.out, '--dry-run'])}\n`,
  );
}

/** Every key that a name means: the key and those below it, otherwise those with the name in theirs. */
function keysLike(wanted: string | null) {
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
  return paths
    .filter((path) => shown.includes(formatPath(path)))
    .map((path) => {
      const node = schemaAt(path)!;
      const parent = path.length === 1 ? jsonSchema() : unwrapNull(schemaAt(path.slice(0, -1))!).node;
      return {
        key: formatPath(path),
        expects: expectation(node),
        required: parent.required?.includes(path.at(-1)!) === true,
        /** As YAML; null: there is none. */
        default: defaultOf(node),
        meaning: node.description ?? '',
      };
    });
}

/** Longer lines of a text are read less easily. */
const KEYS_COLUMNS = 100;

function renderKeys(keys: ReturnType<typeof keysLike>): string {
  const width = Math.min(KEYS_COLUMNS, screenColumns());
  const lines = keys.flatMap(({ key, expects, required, default: text, meaning }) => {
    const given = required ? '; required' : text === null ? '' : `; default ${text}`;
    return [`${key}: ${expects}${given}`, ...wrapped(`    ${meaning}`, width, '    ')];
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
