import { expect, test } from 'vitest';
import { buildProgram } from '../../../src/cli/program.js';
import { ALIASES, aliasOf, VALUE_ALIASES } from '../../../src/config/aliases.js';
import { formatPath, keyPaths, schemaAt, unwrapNull } from '../../../src/config/describe.js';
import { FORMULATION_PATTERN } from '../../../src/objective/names.js';

const keys = keyPaths().map(formatPath);

test('every name of another trainer leads to a key or to an option of launch, and each to one', async () => {
  const program = await buildProgram('launch');
  const options = program.commands
    .find((command) => command.name() === 'launch')!
    .options.map(({ long }) => long);
  for (const { ours } of ALIASES) expect(ours.startsWith('--') ? options : keys).toContain(ours);
  const names = ALIASES.flatMap(({ names }) => names);
  expect(new Set(names).size).toBe(names.length);
  for (const name of names) expect(name).toMatch(/^[a-z0-9_]+$/);
});

test('no name is a key at the top level, where it would hide it', () => {
  for (const { names } of ALIASES) for (const name of names) expect(keys).not.toContain(name);
});

test('names are found whatever their case, with dashes or underscores', () => {
  expect(aliasOf('Learning-Rate')).toBe('here it is optimizer.lr');
  expect(aliasOf('lerning_rate')).toBeNull();
});

test('every value of another trainer leads to one of the key', () => {
  for (const [key, values] of Object.entries(VALUE_ALIASES)) {
    const { node } = unwrapNull(schemaAt(key.split('.'))!);
    for (const [theirs, ours] of Object.entries(values)) {
      const takes = (value: string) => node.enum?.includes(value) ?? FORMULATION_PATTERN.test(value);
      expect([theirs, takes(theirs), takes(ours)]).toEqual([theirs, false, true]);
    }
  }
});
