/** The version of this program and the versions of Node.js that it supports, from package.json. */
import { readFileSync } from 'node:fs';

/** Reads package.json, which is next to both src/ and dist/. */
function manifest(): { version: string; engines: { node: string } } {
  return JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
}

/** The version in package.json. */
export function version(): string {
  return manifest().version;
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
