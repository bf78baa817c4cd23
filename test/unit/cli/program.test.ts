import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { buildProgram } from '../../../src/cli/program.js';
import { cliPage, leafCommands } from '../../../src/reference/cli-page.js';
import { manPage } from '../../../src/reference/man-page.js';

const program = await buildProgram();
const leaves = [...leafCommands(program, [])].map(({ command, path }) => ({
  command,
  name: path.slice(1).join(' '),
}));

/** With what a text may begin that is written in capitals. */
const NAMES: ReadonlySet<string> = new Set(['FLOP/s', 'Parquet', 'YAML']);

describe('the command line', () => {
  test('names every command once', () => {
    const names = leaves.map(({ name }) => name);
    expect(names.length).toBeGreaterThan(1);
    expect(new Set(names).size).toBe(names.length);
  });

  test('has one file for each command, and none of them imports another', () => {
    const folder = 'src/cli/commands';
    const files = readdirSync(folder);
    const commands = new Set(leaves.map(({ name }) => `${name.split(' ')[0]}.ts`));
    const hidden = ['coordinator.ts', 'host-link.ts', 'host-report.ts'];
    expect(files.filter((file) => !commands.has(file))).toEqual(hidden);
    const importing = files.filter((file) => /from '\.\/[^']/.test(readFileSync(join(folder, file), 'utf8')));
    expect(importing).toEqual([]);
  });

  test.each(leaves)('$name explains itself, its arguments and its options', ({ command }) => {
    expect(command.description()).not.toBe('');
    for (const argument of command.registeredArguments)
      expect(argument.description, argument.name()).not.toBe('');
    for (const option of command.options) expect(option.description, option.flags).not.toBe('');
    expect(command.helpInformation()).toContain('Usage: orchestrator');
  });

  test.each(leaves)('the texts of $name are fragments: in lower case, without a full stop', ({ command }) => {
    const parameters = [...command.registeredArguments, ...command.options, ...program.options];
    for (const text of [command.description(), ...parameters.map(({ description }) => description)]) {
      // Not one of the dots in "0000.png, 0001.png, ...".
      expect(text).not.toMatch(/(?<!\.\.)\.(\s|$)/);
      const [first = ''] = text.split(/[ ,;:]/);
      if (!NAMES.has(first)) expect(text).toMatch(/^[^A-Z]/);
    }
  });

  test('the reference and the manual page have the options of every command', () => {
    const pages = [cliPage(program), manPage(program).replaceAll('\\-', '-')];
    for (const option of ['-v, --version', '--debug', '-h, --help'])
      for (const page of pages) expect(page).toMatch(new RegExp(`^(\\| \`|\\.B )${option}`, 'm'));
  });
});
