/** The command line's table of contents: one file per command. */
import { Command } from 'commander';
import * as checkpoint from './commands/checkpoint.js';
import * as config from './commands/config.js';
import * as coordinator from './commands/coordinator.js';
import * as dataset from './commands/dataset.js';
import * as doctor from './commands/doctor.js';
import * as launch from './commands/launch.js';
import * as model from './commands/model.js';
import * as worker from './commands/worker.js';
import { version } from './version.js';

export function buildProgram(): Command {
  const program = new Command('orchestrator')
    .description('Train Stable-Diffusion-3-class models, bit-reproducibly, on any number of nodes.')
    .version(version())
    .option('--debug', 'print stacks of errors')
    .showHelpAfterError('(--help shows the usage)')
    .showSuggestionAfterError()
    .configureOutput({
      outputError: (text, write) => write(text.replace(/^error: /, 'error ERR_USAGE: ')),
    })
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false });
  config.register(program);
  dataset.register(program);
  doctor.register(program);
  checkpoint.register(program);
  model.register(program);
  launch.register(program);
  coordinator.register(program);
  worker.register(program);
  useThrowingExits(program);
  return program;
}

/** Commander ends the process by itself unless told to throw; subcommands made with command() copy this, added ones do not. */
function useThrowingExits(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) useThrowingExits(child);
}
