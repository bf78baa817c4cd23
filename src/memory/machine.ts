/**
 * The memory of this machine: its total, the limits of control groups, and what is free now. Swap is not
 * counted.
 */
import { freemem, totalmem } from 'node:os';
import { join } from 'node:path';
import { textOrNull } from '../files/io.js';
import type { Place } from './fit.js';

interface MachineMemory extends Place {
  /** Bytes that are free now, including cached files that can be dropped. */
  free: number;
}

interface Limit {
  group: string;
  bytes: number;
  free: number;
}

/** The smallest of the machine's memory and the limits of all control groups above this process. */
export function machineMemory(
  limits = controlGroupLimits(),
  total = totalmem(),
  free = freemem(),
): MachineMemory {
  let found: MachineMemory = { bytes: total, source: 'this machine has', free };
  for (const { group, bytes } of limits) {
    if (bytes < found.bytes) found = { ...found, bytes, source: `the control group ${group} allows` };
  }
  return { ...found, free: Math.min(free, ...limits.map((limit) => limit.free)) };
}

/** Names of the files in both versions of control groups. */
const V2 = { limit: 'memory.max', used: 'memory.current', cache: 'inactive_file' };
const V1 = { limit: 'memory.limit_in_bytes', used: 'memory.usage_in_bytes', cache: 'total_inactive_file' };

/**
 * The limits of this process's control group and of all its ancestors: Slurm limits the job, and containers
 * may not see their own path. Node.js (process.constrainedMemory) looks at the innermost group alone.
 *
 * @param root root of the file system, for tests.
 */
export function controlGroupLimits(root = '/'): Limit[] {
  return memoryGroups(root).flatMap(({ folder, group, v2 }) => limitOf(folder, group, v2 ? V2 : V1) ?? []);
}

/**
 * How many processes of this control group the kernel has killed for lack of memory, also that of the machine;
 * null where it does not say.
 *
 * @param root root of the file system, for tests.
 */
export function outOfMemoryKills(root = '/'): number | null {
  for (const { folder, v2 } of memoryGroups(root)) {
    const text = textOrNull(join(folder, v2 ? 'memory.events' : 'memory.oom_control')) ?? '';
    const count = /^oom_kill (\d+)$/m.exec(text)?.[1];
    if (count !== undefined) return Number(count);
  }
  return null;
}

/** The control groups of this process that account for memory, innermost first. */
function memoryGroups(root: string): { folder: string; group: string; v2: boolean }[] {
  const groups: ReturnType<typeof memoryGroups> = [];
  for (const line of (textOrNull(join(root, 'proc/self/cgroup')) ?? '').split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    const v2 = controllers === '';
    if (!v2 && !controllers.split(',').includes('memory')) continue;
    const mount = join(root, v2 ? 'sys/fs/cgroup' : 'sys/fs/cgroup/memory');
    for (const group of withParents(path)) groups.push({ folder: join(mount, group), group, v2 });
  }
  return groups;
}

/** "/a/b" -> "/a/b", "/a", "/" */
function withParents(path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '..');
  return Array.from({ length: parts.length + 1 }, (_, i) => `/${parts.slice(0, parts.length - i).join('/')}`);
}

function limitOf(folder: string, group: string, names: typeof V2): Limit | null {
  const limit = textOrNull(join(folder, names.limit))?.trim() ?? '';
  // Without a limit, version 2 says "max", and version 1 a number near 2^63.
  const bytes = /^\d+$/.test(limit) ? Number(limit) : Number.POSITIVE_INFINITY;
  if (bytes >= 2 ** 60) return null;
  const used = Number(textOrNull(join(folder, names.used)) ?? 0);
  const statistics = textOrNull(join(folder, 'memory.stat')) ?? '';
  const cache = Number(new RegExp(`^${names.cache} (\\d+)$`, 'm').exec(statistics)?.[1] ?? 0);
  return { group, bytes, free: Math.max(0, bytes - Math.max(0, used - cache)) };
}
