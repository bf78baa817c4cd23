/** All checks of `orchestrator doctor`, in the order of the output. */
import { checkAddon } from './addon.js';
import type { Check } from './check.js';
import { checkCuda } from './cuda.js';
import { checkCores, checkDisk, checkMemory, checkNode, checkToolchain } from './machine.js';

export function examine(): Check[] {
  const addon = checkAddon();
  const built = addon.every((check) => check.status !== 'failed');
  return [
    checkNode(),
    checkCores(),
    checkMemory(),
    ...addon,
    ...(built ? [] : [checkToolchain()]),
    checkCuda(),
    checkDisk(),
  ];
}
