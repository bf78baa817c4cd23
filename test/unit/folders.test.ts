/** The folders of src/ are in layers: CONTRIBUTING.md lists them from the lowest to the highest. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';

const order = [...readFileSync('CONTRIBUTING.md', 'utf8').matchAll(/^\| `src\/([a-z-]+)` \|/gm)].map(
  ([, folder]) => folder!,
);
const sources = readdirSync('src', { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => join('src', name));

/** The folder of src/ that a file lies in, or null for a file in src/ itself. */
function folderOf(path: string): string | null {
  const parts = path.split('/');
  return parts.length > 2 ? parts[1]! : null;
}

function importsOf(path: string): string[] {
  const specifiers = [...readFileSync(path, 'utf8').matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)];
  return specifiers.map(([, specifier]) => normalize(join(dirname(path), specifier!)));
}

test('CONTRIBUTING lists every folder of src/ once', () => {
  const folders = readdirSync('src', { withFileTypes: true }).filter((entry) => entry.isDirectory());
  expect([...order].sort()).toEqual(folders.map(({ name }) => name).sort());
});

test('no folder imports from a higher one', () => {
  const upward: string[] = [];
  for (const file of sources) {
    const folder = folderOf(file);
    for (const target of importsOf(file)) {
      const other = folderOf(target);
      if (other === folder || other === null) continue;
      if (folder === null || order.indexOf(other) > order.indexOf(folder))
        upward.push(`${file} -> ${target}`);
    }
  }
  expect(sources.length).toBeGreaterThan(150);
  expect(upward).toEqual([]);
});

test('the rule of a run touches no files, sockets, processes and clocks', () => {
  const rule = sources.filter((file) => folderOf(file) === 'rule');
  const modules = rule.flatMap((file) =>
    [...readFileSync(file, 'utf8').matchAll(/from '(node:[^']+)'/g)].map(([, name]) => `${file}: ${name}`),
  );
  expect(rule.length).toBeGreaterThan(15);
  expect(modules).toEqual(['src/rule/ledger.ts: node:crypto']);
  const clocks = rule.filter((file) =>
    /\b(Date\.now|performance|setTimeout|process)\b[.(]/.test(readFileSync(file, 'utf8')),
  );
  expect(clocks).toEqual([]);
});
