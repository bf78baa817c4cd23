import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

/** The names of a page's headings, as GitHub makes them. */
function anchorsOf(page: string): string[] {
  const text = readFileSync(page, 'utf8').replace(/^ *```.*?^ *```$/gms, '');
  const seen = new Map<string, number>();
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading]) => {
    const words = heading!.replace(/\]\([^)]*\)/g, '').toLowerCase();
    const slug = words.replace(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-');
    const before = seen.get(slug) ?? 0;
    seen.set(slug, before + 1);
    return before === 0 ? slug : `${slug}-${before}`;
  });
}

function isThere(page: string, target: string): boolean {
  const [path, anchor] = target.split('#') as [string, string | undefined];
  const file = path === '' ? page : join(page, '..', path);
  return existsSync(file) && (anchor === undefined || anchorsOf(file).includes(anchor));
}

test('every file and heading that the documentation links to is there', () => {
  const docs = ['docs', 'bench'].flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.md'))
      .map((name) => join(folder, name)),
  );
  const links = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...docs].flatMap((page) =>
    [...readFileSync(page, 'utf8').matchAll(/\]\(([^)\s]+)\)/g)]
      .filter(([, target]) => !/^https?:/.test(target!))
      .map(([, target]) => ({ page, target: target! })),
  );
  expect(links.filter(({ target }) => target.includes('#')).length).toBeGreaterThan(50);
  const missing = links.filter(({ page, target }) => !isThere(page, target));
  expect(missing.map(({ page, target }) => `${page}: ${target}`)).toEqual([]);
});

const WIDEST = 110;
/** Tables, code and lines that are mostly an address cannot be broken. */
test('prose is at most 110 columns wide', () => {
  const pages = readdirSync('docs/guide').map((name) => join('docs/guide', name));
  const wide: string[] = [];
  for (const page of ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'docs/README.md', ...pages]) {
    const prose = readFileSync(page, 'utf8').replace(/^ *```.*?^ *```$/gms, (code) =>
      code.replace(/.+/g, ''),
    );
    for (const [i, line] of prose.split('\n').entries()) {
      if (line.length > WIDEST && !/^ *(\||<|#)/.test(line) && / /.test(line.trim().slice(2)))
        wide.push(`${page}:${i + 1}`);
    }
  }
  expect(wide).toEqual([]);
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

const FOLDERS = [
  '.ci',
  'assets',
  'bench',
  'cluster',
  'configs',
  'docs',
  'native',
  'proto',
  'scripts',
  'src',
  'test',
];

test('what CONTRIBUTING sets as code is a file, or is written in one', () => {
  const text = readFileSync('CONTRIBUTING.md', 'utf8')
    .replace(/^```.*?^```$/gms, '')
    // What a trial added is not there any more.
    .replace(/^- new: .*(\n {2}.*)*/gm, '');
  const names = [...new Set([...text.matchAll(/`([^`\s]+)`/g)].map(([, name]) => name!))];
  const within = (folder: string) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name));
  const files = [...readdirSync('.'), ...FOLDERS.flatMap(within)];
  const paths = files.map((file) => `/${file}/`).join('\n');
  const sources = files
    .filter((file) => /^((native|src|test|scripts)\/.*\.(cc|cu|h|ts|sh|mjs)|package\.json)$/.test(file))
    .map((file) => readFileSync(file, 'utf8'))
    .join('\n');
  const literal = (part: string) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const isPath = (name: string) => {
    const pattern = literal(name.replace(/\/$/, '')).replaceAll(/\\\*|NAME/g, '[^/]*');
    return new RegExp(`/${pattern}/`).test(paths);
  };
  const isWritten = (name: string) =>
    !/\.(ts|cc|cu|h|md|json|mjs|sh|txt|yaml|proto)$/.test(name) &&
    name.split(/::|\./).every((part) => new RegExp(`(?<![\\w-])${literal(part)}(?![\\w-])`).test(sources));
  expect(names.length).toBeGreaterThan(150);
  expect(names.filter((name) => !isPath(name) && !isWritten(name))).toEqual([]);
});
