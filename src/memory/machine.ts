/**
 * The memory of this machine: its total, the limits of control groups, and what is free now. Swap is not
 * counted.
 */
import { freemem, totalmem } from 'node:os';
import { join } from 'node:path';
import { controlGroups } from '../files/control-groups.js';
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
 * The limits of this process's control group and of all its ancestors. Node.js (process.constrainedMemory)
 * looks at the innermost group alone.
 *
 * @param root root of the file system, for tests.
 */
export function controlGroupLimits(root = '/'): Limit[] {
  return controlGroups('memory', root).flatMap(
    ({ folder, group, version }) => limitOf(folder, group, version === 2 ? V2 : V1) ?? [],
  );
}

/**
 * How many processes of this control group the kernel has killed for lack of memory, also that of the machine;
 * null where it does not say.
 *
 * @param root root of the file system, for tests.
 */
export function outOfMemoryKills(root = '/'): number | null {
  for (const { folder, version } of controlGroups('memory', root)) {
    const text = textOrNull(join(folder, version === 2 ? 'memory.events' : 'memory.oom_control')) ?? '';
    const count = /^oom_kill (\d+)$/m.exec(text)?.[1];
    if (count !== undefined) return Number(count);
  }
  return null;
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
