/** Generates orchestrator(1), the manual page, from commander's definitions: `man docs/reference/orchestrator.1`. */
import type { Command } from 'commander';
import { EXIT } from '../errors.js';
import { version } from '../version.js';
import { EXIT_MEANINGS, leafCommands, optionsOf, parametersOf, sentence } from './cli-page.js';

export function manPage(program: Command): string {
  const commands = [...leafCommands(program, [])];
  return [
    `.TH ORCHESTRATOR 1 "" "orchestrator ${version()}" "User commands"`,
    '.SH NAME',
    `orchestrator \\- ${escaped(lowered(program.description()))}`,
    '.SH SYNOPSIS',
    '.B orchestrator',
    '.I command',
    '[options]',
    '.SH DESCRIPTION',
    escaped(program.description()),
    '.SH OPTIONS',
    'These are options of every command.',
    ...tagged(optionsOf(program)),
    '.SH COMMANDS',
    ...commands.flatMap(({ command, path }) => [
      `.SS ${escaped([...path.slice(1), command.usage()].join(' '))}`,
      escaped(sentence(command.description())),
      ...tagged(parametersOf(command)),
    ]),
    '.SH EXIT STATUS',
    ...Object.entries(EXIT).flatMap(([name, code]) => [
      '.TP',
      String(code),
      escaped(EXIT_MEANINGS[name as keyof typeof EXIT]),
    ]),
    '.PP',
    'A run that a signal has stopped ends with 128 plus the number of the signal, with its state saved;',
    'before the first step there is none.',
    '.SH FILES',
    '.TP',
    '.I runs/NAME',
    escaped(
      'folder of a run: configuration, checkpoints, metrics.jsonl, run.log, ledger.jsonl, journal.jsonl',
    ),
    '.SH SEE ALSO',
    escaped('The guide in docs/ of the repository begins with docs/README.md.'),
    '',
  ].join('\n');
}

/** Terms in bold, each with its meaning below it. */
function tagged(parameters: readonly (readonly [string, string])[]): string[] {
  return parameters.flatMap(([term, meaning]) => ['.TP', `.B ${escaped(term)}`, escaped(meaning)]);
}

const lowered = (text: string) => text.charAt(0).toLowerCase() + text.slice(1).replace(/\.$/, '');

/** Text for roff, to which a backslash, and a point or an apostrophe at the start of a line, are its own. */
function escaped(text: string): string {
  return text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replace(/^[.']/gm, '\\&$&');
}
