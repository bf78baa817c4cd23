import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

test('every file that the documentation links to is there', () => {
  const docs = readdirSync('docs', { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.md'),
  );
  const pages = ['README.md', 'CONTRIBUTING.md', ...docs.map((name) => join('docs', name))];
  const missing = pages.flatMap((page) =>
    [...readFileSync(page, 'utf8').matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)]
      .map(([, target]) => target!)
      .filter((target) => !/^https?:/.test(target))
      .filter((target) => {
        try {
          readFileSync(join(page, '..', target));
          return false;
        } catch {
          return true;
        }
      })
      .map((target) => `${page}: ${target}`),
  );
  expect(missing).toEqual([]);
});

test('CONTRIBUTING names every folder of the sources', () => {
  const text = readFileSync('CONTRIBUTING.md', 'utf8');
  const folders = ['src', 'native'].flatMap((root) =>
    readdirSync(root, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && readdirSync(join(root, entry.name)).length > 0)
      .map((entry) => `${root}/${entry.name}`),
  );
  expect(folders.filter((folder) => !text.includes(`\`${folder}\``))).toEqual([]);
  const named = [...text.matchAll(/`((?:src|native)\/[a-z]+)`/g)].map(([, folder]) => folder!);
  expect(named.filter((folder) => !folders.includes(folder))).toEqual([]);
});
