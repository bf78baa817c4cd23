/** The command line's table of contents: one file per command, loaded when it is used. */
import { Command, Help, type Option } from 'commander';
import { version } from '../version.js';
import { usageAdvice } from './usage-advice.js';

interface CommandFile {
  register(program: Command): void;
}

/** In the order of --help. */
const COMMANDS: Record<string, () => Promise<CommandFile>> = {
  doctor: () => import('./commands/doctor.js'),
  config: () => import('./commands/config.js'),
  objective: () => import('./commands/objective.js'),
  estimate: () => import('./commands/estimate.js'),
  profile: () => import('./commands/profile.js'),
  dataset: () => import('./commands/dataset.js'),
  launch: () => import('./commands/launch.js'),
  stop: () => import('./commands/stop.js'),
  invite: () => import('./commands/invite.js'),
  drain: () => import('./commands/drain.js'),
  status: () => import('./commands/status.js'),
  logs: () => import('./commands/logs.js'),
  rows: () => import('./commands/rows.js'),
  runs: () => import('./commands/runs.js'),
  compare: () => import('./commands/compare.js'),
  sample: () => import('./commands/sample.js'),
  evaluate: () => import('./commands/evaluate.js'),
  study: () => import('./commands/study.js'),
  checkpoint: () => import('./commands/checkpoint.js'),
  model: () => import('./commands/model.js'),
  completion: () => import('./commands/completion.js'),
  coordinator: () => import('./commands/coordinator.js'),
  worker: () => import('./commands/worker.js'),
  'host-link': () => import('./commands/host-link.js'),
  'host-report': () => import('./commands/host-report.js'),
};

/** Instead of a command's name: no command is loaded. */
export const VERSION_ONLY = '--version';

/** A command that is about all commands. */
const OF_ALL = 'completion';

/**
 * Builds the command line.
 *
 * @param name The command to load, without the modules of the others; null or an unknown name loads all.
 */
export async function buildProgram(name: string | null = null): Promise<Command> {
  const program = new Command('orchestrator')
    .description(
      'Train MM-DiT models (the architecture of Stable Diffusion 3), bit-reproducibly, with any number of workers.',
    )
    .version(version(), '-v, --version', 'print the version')
    .option('--debug', 'print stacks of errors')
    .helpOption('-h, --help', 'print how the command is used')
    .helpCommand('help [command]', 'print how a command is used')
    .exitOverride()
    .showHelpAfterError('(--help shows the usage)')
    .showSuggestionAfterError()
    .configureOutput({
      outputError: (text, write) => {
        write(text.replace(/^error: /, 'error ERR_USAGE: '));
        const advice = usageAdvice(text, process.argv.slice(2));
        if (advice !== null) write(`hint: ${advice}\n`);
      },
    })
    // Descriptions stay beside the options where they have at least this many columns.
    .configureHelp({ showGlobalOptions: true, minWidthToWrap: 20, optionDescription });
  if (name === VERSION_ONLY) return program;
  const isOne = name !== null && name !== OF_ALL && Object.hasOwn(COMMANDS, name);
  const known = isOne ? [COMMANDS[name]!] : Object.values(COMMANDS);
  for (const file of await Promise.all(known.map((load) => load()))) file.register(program);
  return program;
}

/** Commander's description of an option, with a note if it is required. */
function optionDescription(this: Help, option: Option): string {
  const description = Help.prototype.optionDescription.call(this, option);
  return option.mandatory ? `${description} (required)` : description;
}
