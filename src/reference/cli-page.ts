/** Generates docs/reference/cli.md from commander's definitions. */
import type { Command } from 'commander';
import { EXIT } from '../errors.js';
import { SIGNAL_EXIT } from '../signals.js';
import { code, page, table } from './markdown.js';

export const EXIT_MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  done: 'done',
  failed: 'failed; the last lines on standard error say why, and what to do',
  usage: 'wrong command line or configuration',
  unsaved:
    '`launch`: stopped without saving: at once by a second Ctrl-C, or because the workers were gone that held the last steps',
  unfinished: '`study run`: the budget ended before all runs were complete',
  hung: '`worker`: a kernel, a copy of the state or the event loop stood still, and its watchdog ended it; `launch` starts it again',
};

const INTRODUCTION = `\`./orchestrator\` in the repository runs it; a link to that file does so from anywhere. Errors have the form \`error ERR_CODE: message\` ([all codes](errors.md)).

${table(
  ['exit code', 'meaning'],
  [
    ...Object.entries(EXIT).map(([name, code]) => [String(code), EXIT_MEANINGS[name as keyof typeof EXIT]]),
    ...Object.entries(SIGNAL_EXIT).map(([signal, code]) => [
      String(code),
      `\`launch\`: stopped by ${signal === 'SIGINT' ? 'Ctrl-C (SIGINT)' : signal}, with the state saved; before the first step there is none`,
    ]),
  ],
)}`;

export function cliPage(program: Command): string {
  const global = ['## Options of every command', parameterTable(optionsOf(program))].join('\n\n');
  const sections = [...leafCommands(program, [])].map(({ command, path }) => section(command, path));
  return page('Command line', 'src/cli/commands/', INTRODUCTION, global, ...sections);
}

interface Leaf {
  command: Command;
  /** Names from the program's on: ["orchestrator", "config", "show"]. */
  path: string[];
}

/** Commands without subcommands, in the order of --help. */
export function* leafCommands(command: Command, parents: readonly string[]): Generator<Leaf> {
  const path = [...parents, command.name()];
  const children = command
    .createHelp()
    .visibleCommands(command)
    .filter((child) => child.name() !== 'help');
  if (children.length === 0) yield { command, path };
  for (const child of children) yield* leafCommands(child, path);
}

function section(command: Command, path: readonly string[]): string {
  const parts = [
    `## ${path.slice(1).join(' ')}`,
    sentence(command.description()),
    code(`${path.join(' ')} ${command.usage()}`),
  ];
  const parameters = parametersOf(command);
  if (parameters.length > 0) parts.push(parameterTable(parameters));
  return parts.join('\n\n');
}

/** A term and its meaning. */
type Parameter = [string, string];

function parameterTable(parameters: readonly Parameter[]): string {
  return table(
    ['argument or option', 'meaning'],
    parameters.map(([term, meaning]) => [code(term), meaning]),
  );
}

/** Arguments and options, each with its meaning, without those of every command. */
export function parametersOf(command: Command): Parameter[] {
  const help = command.createHelp();
  return [
    ...help
      .visibleArguments(command)
      .map((argument): Parameter => [help.argumentTerm(argument), help.argumentDescription(argument)]),
    ...optionsOf(command).filter(([term]) => !term.includes('--help')),
  ];
}

/** Options, each with its meaning; of the program itself those that every command has. */
export function optionsOf(command: Command): Parameter[] {
  const help = command.createHelp();
  return help
    .visibleOptions(command)
    .map((option) => [help.optionTerm(option), help.optionDescription(option)]);
}

export function sentence(text: string): string {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return capital.endsWith('.') ? capital : `${capital}.`;
}
