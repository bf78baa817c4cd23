import { readFileSync } from 'node:fs';

/** package.json lies beside src/ and dist/ alike. */
function manifest(): { version: string; engines: { node: string } } {
  return JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
}

/** The version in package.json. */
export function version(): string {
  return manifest().version;
}

/** Majors of Node.js with the oldest minor that package.json serves, ascending; `above`: later majors are let in, too. */
export function servedNodes(): { major: number; minor: number; above: boolean }[] {
  return [...manifest().engines.node.matchAll(/(\^|>=)(\d+)\.(\d+)/g)].map(([, sign, major, minor]) => ({
    major: Number(major),
    minor: Number(minor),
    above: sign === '>=',
  }));
}
