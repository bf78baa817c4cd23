/** The version and the build of this program, and the versions of Node.js that it supports. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Reads package.json, which is next to both src/ and dist/. */
function manifest(): { version: string; engines: { node: string } } {
  return JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
}

/** The version in package.json. */
export function version(): string {
  return manifest().version;
}

let known: string | null = null;

/**
 * The build of this program: a hash of its own code, which differs where the version does not, between two releases. 12
 * hexadecimal digits, the same wherever the same sources were built. It takes some 20 ms, once in a process. The native
 * addon is not part of it, because compilers differ.
 */
export function build(): string {
  known ??= buildOf(fileURLToPath(new URL('.', import.meta.url)), extname(fileURLToPath(import.meta.url)));
  return known;
}

/** The build of a folder: a hash of its files with this extension, and of `proto/cluster.proto` beside it. */
export function buildOf(folder: string, extension: string): string {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  const files = names.filter((name) => extname(name) === extension).sort();
  const hash = createHash('sha256');
  for (const name of [...files, join('..', 'proto', 'cluster.proto')]) {
    const bytes = readFileSync(join(folder, name));
    hash.update(`${name}\0${bytes.length}\0`).update(bytes);
  }
  return hash.digest('hex').slice(0, 12);
}

/**
 * The supported major versions of Node.js with their oldest minor version, ascending; `above` also admits
 * later majors.
 */
export function supportedNodes(): { major: number; minor: number; above: boolean }[] {
  return [...manifest().engines.node.matchAll(/(\^|>=)(\d+)\.(\d+)/g)].map(([, sign, major, minor]) => ({
    major: Number(major),
    minor: Number(minor),
    above: sign === '>=',
  }));
}
