import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ERRORS } from '../../src/errors.js';

test('every code that C++ throws is one of ERRORS', () => {
  const sources = readdirSync('native', { recursive: true, encoding: 'utf8' })
    .filter((path) => /\.(cc|cu|h)$/.test(path) && !/^(test|bench)\//.test(path))
    .map((path) => join('native', path));
  const unknown = sources.flatMap((path) =>
    [...readFileSync(path, 'utf8').matchAll(/"(ERR_\w+)"/g)]
      .filter(([, code]) => !Object.hasOwn(ERRORS, code!))
      .map(([, code]) => `${path}: ${code}`),
  );
  expect(sources.length).toBeGreaterThan(50);
  expect(unknown).toEqual([]);
});
