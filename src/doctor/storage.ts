/** Checks the disk space for runs and checkpoints. */
import { accessSync, constants, statfsSync } from 'node:fs';
import { bytes } from '../text/quantities.js';
import { type Check, failed, ok, warning } from './check.js';

const LITTLE_DISK = 2 * 2 ** 30;

export function checkDisk(folder = process.cwd()): Check {
  let free: number;
  try {
    const { bavail, bsize } = statfsSync(folder);
    free = bavail * bsize;
  } catch {
    return failed('disk', `${folder} cannot be read`, 'change to another folder');
  }
  try {
    accessSync(folder, constants.W_OK);
  } catch {
    return warning('disk', `${folder} is not writable`, 'change to another folder, or use --run-dir');
  }
  const detail = `${bytes(free)} free in ${folder}`;
  if (free >= LITTLE_DISK) return ok('disk', detail);
  return warning('disk', detail, 'free some space, or use --run-dir on another disk');
}
