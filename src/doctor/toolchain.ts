/** Checks the tools for building the addon; only used if the addon is missing. */
import { spawnSync } from 'node:child_process';
import { type Check, failed, ok } from './check.js';

const TOOLS = ['cmake', 'g++', 'make'] as const;

export function checkToolchain(): Check {
  const missing = TOOLS.filter((tool) => spawnSync(tool, ['--version'], { timeout: 10_000 }).status !== 0);
  if (missing.length === 0) return ok('toolchain', TOOLS.join(', '));
  return failed('toolchain', `${missing.join(', ')} not found`, 'npm run setup');
}
