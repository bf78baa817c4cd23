/** What src/ exports has an importer: otherwise it is a detail of its file, or nobody needs it. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';

/** The names of a file that is imported as a whole are not known; one that is only loaded early gives none. */
const EVERYTHING = '*';

const texts = new Map(
  ['src', 'test', 'bench', 'cluster', 'scripts'].flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(ts|mjs)$/.test(name) && !name.includes('generated'))
      .map((name) => [join(folder, name), readFileSync(join(folder, name), 'utf8')] as const),
  ),
);

/** The file that another imports: the scripts import what was compiled. */
function target(file: string, specifier: string): string {
  const path = normalize(join(dirname(file), specifier));
  return path.replace(/^(dist|build\/\w+\/src)\//, 'src/').replace(/\.js$/, '.ts');
}

/** "type A, b as c" has A and b, and so has the pattern "A, b: c". */
function namesIn(list: string): string[] {
  return list.split(',').map((one) => /^(?:type )?(\w*)/.exec(one.trim())![1]!);
}

/** The names that are imported from each file. */
function importedNames(): Map<string, Set<string>> {
  const imported = new Map<string, Set<string>>();
  const of = (path: string) => imported.get(path) ?? imported.set(path, new Set()).get(path)!;
  const passedOn: [from: string, by: string][] = [];
  for (const [file, text] of texts) {
    for (const [, names, whole] of text.matchAll(
      /^(?:import|export) (?:type )?\{([^}]*)\} from '(\.[^']+)'/gm,
    )) {
      for (const name of namesIn(names!)) of(target(file, whole!)).add(name);
    }
    for (const [, whole] of text.matchAll(/^export (?:type )?\* from '(\.[^']+)'/gm)) {
      passedOn.push([target(file, whole!), file]);
    }
    for (const [, names, whole] of text.matchAll(/\{([^{}]*)\} = await import\(\s*'(\.[^']+)'/g)) {
      for (const name of namesIn(names!)) of(target(file, whole!)).add(name);
    }
    for (const [, whole] of text.matchAll(
      /(?:^import (?:type )?\* as \w+ from|(?<!\} = await |\) await |void )\bimport\()\s*'(\.[^']+)'/gm,
    )) {
      of(target(file, whole!)).add(EVERYTHING);
    }
  }
  for (const [from, by] of passedOn) for (const name of of(by)) of(from).add(name);
  return imported;
}

function exportedNames(text: string): string[] {
  const declared = /^export (?:abstract |async )?(?:const|let|function\*?|class|interface|type|enum) (\w+)/gm;
  return [...text.matchAll(declared)].map(([, name]) => name!);
}

test('every name that is exported is imported', () => {
  const imported = importedNames();
  const unused: string[] = [];
  let count = 0;
  for (const [file, text] of texts) {
    if (!file.startsWith('src/') || imported.get(file)?.has(EVERYTHING)) continue;
    for (const name of exportedNames(text)) {
      count++;
      if (!imported.get(file)?.has(name)) unused.push(`${file}: ${name}`);
    }
  }
  expect(count).toBeGreaterThan(1_000);
  expect(unused).toEqual([]);
});
