/** Checks the disk space for runs and checkpoints. */
import { accessSync, constants, statfsSync } from 'node:fs';
import { bytes } from '../text/quantities.js';
import { type Check, failed, ok, warning } from './check.js';

const LITTLE_DISK = 2 * 2 ** 30;

export function checkDisk(folder = process.cwd()): Check {
  const free = freeBytes(folder);
  if (free === null) return failed('disk', `${folder} cannot be read`, 'change to another folder');
  if (!writable(folder)) {
    return warning('disk', `${folder} is not writable`, 'change to another folder, or use --run-dir');
  }
  const detail = `${bytes(free)} free in ${folder}`;
  if (free >= LITTLE_DISK) return ok('disk', detail);
  return warning('disk', detail, 'free some space, or use --run-dir on another disk');
}

function freeBytes(folder: string): number | null {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  } catch {
    return null;
  }
}

function writable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
