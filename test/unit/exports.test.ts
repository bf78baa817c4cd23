/** What src/ exports has an importer: otherwise it is a detail of its file, or nobody needs it. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';

const EVERYTHING = '*';

const files = ['src', 'test', 'bench', 'cluster', 'scripts'].flatMap((folder) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|mjs)$/.test(name) && !name.includes('generated'))
    .map((name) => join(folder, name)),
);
const texts = new Map(files.map((file) => [file, readFileSync(file, 'utf8')]));

/** The names that files import, by the file that exports them. */
function importedNames(): Map<string, Set<string>> {
  const imported = new Map<string, Set<string>>();
  for (const [file, text] of texts) {
    for (const [, names, whole] of text.matchAll(/(?:import|export) (?:type )?(?:\{([^}]*)\}|[^;{}]*?) from '(\.[^']+)'/g)) {
      add(file, whole!, names === undefined ? [EVERYTHING] : namesIn(names));
    }
    // Of what a call of import() or a command in a string takes, the names are not known.
    for (const [, whole] of text.matchAll(/(?:import\(|new URL\(|require\()\s*'(\.[^']+)'/g)) {
      add(file, whole!, [EVERYTHING]);
    }
  }
  function add(file: string, specifier: string, names: readonly string[]): void {
    // The scripts import what was compiled.
    const path = normalize(join(dirname(file), specifier))
      .replace(/^dist\//, 'src/')
      .replace(/\.js$/, '.ts');
    imported.set(path, new Set([...(imported.get(path) ?? []), ...names]));
  }
  return imported;
}

/** "type A, b as c" has A and b. */
function namesIn(list: string): string[] {
  return list.split(',').map((one) => /^(?:type )?(\w*)/.exec(one.trim())![1]!);
}

function exportedNames(text: string): string[] {
  const declared = /^export (?:declare )?(?:abstract )?(?:async )?(?:const|let|function\*?|class|interface|type|enum) (\w+)/gm;
  return [...text.matchAll(declared)].map(([, name]) => name!);
}

test('every name that is exported is imported', () => {
  const imported = importedNames();
  const exported = files
    .filter((file) => file.startsWith('src/'))
    .flatMap((file) => exportedNames(texts.get(file)!).map((name) => ({ file, name })));
  const unused = exported.filter(({ file, name }) => {
    const names = imported.get(file);
    return !names?.has(name) && !names?.has(EVERYTHING);
  });
  expect(exported.length).toBeGreaterThan(1_000);
  expect(unused.map(({ file, name }) => `${file}: ${name}`)).toEqual([]);
});
