/** The control groups of this process, in both versions of Linux's cgroups. */
import { join } from 'node:path';
import { textOrNull } from './io.js';

interface ControlGroup {
  /** The group's path in its hierarchy: "/a/b". */
  group: string;
  /** Its folder in the file system. */
  folder: string;
  version: 1 | 2;
}

/**
 * The groups of this process that may limit what a controller controls: its own and all their ancestors,
 * innermost first. Slurm limits the job, and containers may not see their own path.
 *
 * @param controller "memory" or "cpu".
 * @param root root of the file system, for tests.
 */
export function controlGroups(controller: string, root = '/'): ControlGroup[] {
  return (textOrNull(join(root, 'proc/self/cgroup')) ?? '').split('\n').flatMap((line) => {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) return [];
    const version = controllers === '' ? 2 : 1;
    if (version === 1 && !controllers.split(',').includes(controller)) return [];
    const mount = join(root, 'sys/fs/cgroup', version === 2 ? '' : controller);
    return withParents(path).map((group) => ({ group, folder: join(mount, group), version }) as const);
  });
}

/** "/a/b" -> "/a/b", "/a", "/" */
function withParents(path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '..');
  return Array.from({ length: parts.length + 1 }, (_, i) => `/${parts.slice(0, parts.length - i).join('/')}`);
}
