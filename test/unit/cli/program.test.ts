import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { buildProgram } from '../../../src/cli/program.js';
import { leafCommands } from '../../../src/reference/cli-page.js';

const leaves = [...leafCommands(await buildProgram(), [])].map(({ command, path }) => ({
  command,
  name: path.slice(1).join(' '),
}));

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
});
