import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ERRORS } from '../../src/errors.js';

function sourcesOf(folder: string, pattern: RegExp): { path: string; text: string }[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => pattern.test(name))
    .map((name) => ({ path: join(folder, name), text: readFileSync(join(folder, name), 'utf8') }));
}

const native = sourcesOf('native', /\.(cc|cu|h)$/).filter(
  ({ path }) => !/^native\/(test|bench)\//.test(path),
);
const typescript = sourcesOf('src', /\.ts$/).filter(
  ({ path }) => path !== 'src/errors.ts' && !path.includes('/generated/'),
);

/** The codes that C++ throws, each with a file that does. */
const thrown = new Map(
  native.flatMap(({ path, text }) =>
    // Every use, whatever stands before the quote: Error("ERR_..."), or a function that makes one.
    [...text.matchAll(/"(ERR_[A-Z0-9_]+)"/g)].map(([, code]) => [code!, path] as const),
  ),
);

test('every code that C++ throws is one of ERRORS', () => {
  expect([...thrown].filter(([code]) => !Object.hasOwn(ERRORS, code))).toEqual([]);
});

test('every error that C++ constructs is found with its code', () => {
  // A code that is no literal, or a file with another ending, would escape the test above.
  const constructed = native.flatMap(({ path, text }) =>
    [...text.replace(/\/\/.*/g, '').matchAll(/\bError\(\s*([^,]*),/g)].map(([, code]) => ({
      path,
      code: code!,
    })),
  );
  const unseen = constructed.filter(
    ({ code }) => !/"ERR_[A-Z0-9_]+"|^std::string code$|\.code\(\)$/.test(code),
  );
  expect(constructed.length).toBeGreaterThan(100);
  expect(unseen).toEqual([]);
  const endings = new Set(
    readdirSync('native', { recursive: true, encoding: 'utf8' }).map((name) => name.match(/\.\w+$/)?.[0]),
  );
  expect([...endings].filter((ending) => ending !== undefined).sort()).toEqual([
    '.cc',
    '.cmake',
    '.cu',
    '.h',
  ]);
});

test('every code of ERRORS is thrown by somebody', () => {
  const text = typescript.map((source) => source.text).join('\n');
  const silent = Object.keys(ERRORS).filter((code) => !thrown.has(code) && !text.includes(`'${code}'`));
  expect(silent).toEqual([]);
});
