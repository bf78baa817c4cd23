/** Generates orchestrator(1), the manual page, from commander's definitions: `man docs/reference/orchestrator.1`. */
import type { Command } from 'commander';
import { EXIT } from '../errors.js';
import { version } from '../version.js';
import { EXIT_MEANINGS, leafCommands, parametersOf, sentence } from './cli-page.js';

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
    '.SH COMMANDS',
    ...commands.flatMap(({ command, path }) => [
      `.SS ${escaped([...path.slice(1), command.usage()].join(' '))}`,
      escaped(sentence(command.description())),
      ...parametersOf(command).flatMap(([term, meaning]) => ['.TP', `.B ${escaped(term)}`, escaped(meaning)]),
    ]),
    '.SH EXIT STATUS',
    ...Object.entries(EXIT).flatMap(([name, code]) => [
      '.TP',
      String(code),
      escaped(EXIT_MEANINGS[name as keyof typeof EXIT].replaceAll('`', '')),
    ]),
    'A run that a signal has stopped, with its state saved, ends with 128 and the number of the signal.',
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

const lowered = (text: string) => text.charAt(0).toLowerCase() + text.slice(1).replace(/\.$/, '');

/** Text for roff, to which a backslash, and a point or an apostrophe at the start of a line, are its own. */
function escaped(text: string): string {
  return text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replace(/^[.']/gm, '\\&$&');
}
