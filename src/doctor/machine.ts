/** Checks Node.js, processors, memory, disk space, and the tools that build the addon. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, statfsSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { machineMemory } from '../memory/machine.js';
import { processorQuota } from '../native/host.js';
import { bytes } from '../text/quantities.js';
import { supportedNodes } from '../version.js';
import { type Check, failed, ok, warning } from './check.js';

const LITTLE_MEMORY = 2 * 2 ** 30;
const LITTLE_DISK = 2 * 2 ** 30;
const TOOLS = ['cmake', 'g++', 'make'] as const;

export function checkNode(version = process.versions.node): Check {
  const [a = 0, b = 0] = version.split('.').map(Number);
  const supported = supportedNodes();
  const known = supported.map(({ major, minor }) => `${major} from ${major}.${minor}`).join(', ');
  if (supported.some(({ major, minor }) => a === major && b >= minor)) return ok('node', `v${version}`);
  if (supported.some(({ major, above }) => above && a > major))
    return warning('node', `v${version}; tested versions: ${known}`, 'install Node.js 22 if something fails');
  return failed('node', `v${version}; supported versions: ${known}`, 'install Node.js 22');
}

export function checkCores(quota = processorQuota()): Check {
  const usable = availableParallelism();
  const model = cpus()[0]?.model ?? process.arch;
  const detail = `${usable} usable of ${model}`;
  if (quota === null || quota >= usable) return ok('cores', detail);
  const limited = `${detail}; the control group allows the time of ${quota}`;
  return quota < 1 ? warning('cores', limited, 'raise the quota') : ok('cores', limited);
}

export function checkMemory(machine = machineMemory()): Check {
  const available = Math.min(machine.free, machine.bytes);
  const detail = `${bytes(available)} available of ${bytes(machine.bytes)}`;
  if (available >= LITTLE_MEMORY) return ok('memory', detail);
  return warning('memory', detail, 'close other programs, or use a smaller model or batch.micro');
}

/** The disk space for runs and checkpoints. */
export function checkDisk(folder = process.cwd(), little = LITTLE_DISK): Check {
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
  if (free >= little) return ok('disk', detail);
  return warning('disk', detail, 'free some space, or use --run-dir on another disk');
}

/** The tools for building the addon; only asked for if the addon is missing. */
export function checkToolchain(): Check {
  const missing = TOOLS.filter((tool) => spawnSync(tool, ['--version'], { timeout: 10_000 }).status !== 0);
  if (missing.length === 0) return ok('toolchain', TOOLS.join(', '));
  return failed('toolchain', `${missing.join(', ')} not found`, 'npm run setup');
}
