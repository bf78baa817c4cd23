import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs } from './needs.js';

function probe(): string | null {
  const missing = needs('mount') ?? needs('umount');
  if (missing !== null) return missing;
  if (process.getuid?.() !== 0) return 'needs root';
  const folder = mkdtempSync(join(tmpdir(), 'mountable-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder], { stdio: 'pipe' });
    execFileSync('umount', [folder]);
    return null;
  } catch {
    return 'needs the right to mount, which this container has not';
  } finally {
    rmdirSync(folder);
  }
}

/** Why this process cannot mount a tmpfs; null where it can. */
export const unmountable = probe();
