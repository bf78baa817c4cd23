import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { build, buildOf } from '../../src/version.js';
import { temporaryFolder } from '../support/folders.js';

test('a build is known by the code and the messages, wherever they are, and by nothing else', () => {
  const root = temporaryFolder();
  const [dist, proto] = [join(root, 'dist'), join(root, 'proto')];
  for (const folder of [dist, join(dist, 'rpc'), proto]) mkdirSync(folder);
  const write = (name: string, text: string) => writeFileSync(join(root, name), text);
  write('dist/main.js', 'a');
  write('dist/rpc/proto.js', 'b');
  write('proto/cluster.proto', 'c');
  const first = buildOf(dist, '.js');
  expect(first).toMatch(/^[0-9a-f]{12}$/);
  write('dist/main.js.map', 'other');
  const moved = join(temporaryFolder(), 'elsewhere');
  renameSync(root, moved);
  expect(buildOf(join(moved, 'dist'), '.js')).toBe(first);
  for (const name of ['dist/main.js', 'dist/rpc/proto.js', 'proto/cluster.proto', 'dist/new.js']) {
    const before = buildOf(join(moved, 'dist'), '.js');
    writeFileSync(join(moved, name), 'changed');
    expect(buildOf(join(moved, 'dist'), '.js'), name).not.toBe(before);
  }
});

test('the tests have a build, too, which is that of the sources', () => {
  expect(build()).toBe(buildOf('src', '.ts'));
});
