import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { buildOf } from '../../../src/version.js';
import { temporaryFolder } from '../../support/folders.js';

test('what was compiled from a file that is gone does not make another build', () => {
  const root = temporaryFolder();
  const [src, dist, proto] = ['src', 'dist', 'proto'].map((name) => join(root, name)) as [
    string,
    string,
    string,
  ];
  for (const folder of [src, join(src, 'rpc'), dist, join(dist, 'rpc'), proto]) mkdirSync(folder);
  writeFileSync(join(proto, 'cluster.proto'), '');
  for (const name of ['main', 'rpc/proto']) {
    for (const file of [`src/${name}.ts`, `dist/${name}.js`, `dist/${name}.js.map`]) {
      writeFileSync(join(root, file), file);
    }
  }
  writeFileSync(join(dist, '.tsbuildinfo'), '');
  const fresh = buildOf(dist, '.js');
  for (const name of ['moved.js', 'rpc/moved.js', 'rpc/moved.js.map']) writeFileSync(join(dist, name), '');
  execFileSync('bash', ['scripts/remove-stale.sh', dist, src]);
  expect(buildOf(dist, '.js')).toBe(fresh);
  expect(existsSync(join(dist, 'rpc/moved.js.map'))).toBe(false);
  expect(existsSync(join(dist, 'rpc/proto.js.map'))).toBe(true);
  expect(existsSync(join(dist, '.tsbuildinfo'))).toBe(true);
});

test('every build removes it', () => {
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8'));
  expect(scripts['build:ts']).toMatch(/tsc -p \S+ && bash scripts\/remove-stale\.sh dist src/);
});
