import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/load.js';

const files = readdirSync('configs').filter((name) => name.endsWith('.yaml'));

test.each(files)('configs/%s is valid, named after its file, and completed by editors', (name) => {
  const path = `configs/${name}`;
  expect(loadConfig(path, [], {}).name).toBe(name.replace(/\.yaml$/, ''));
  expect(readFileSync(path, 'utf8').split('\n')[0]).toBe('# yaml-language-server: $schema=schema.json');
});
