/**
 * This machine as the addon sees it, with no more processors than the control groups of the process allow.
 */
import { join } from 'node:path';
import { controlGroups } from '../files/control-groups.js';
import { textOrNull } from '../files/io.js';
import type { HostInfo, NativeAddon } from './contract.js';

/**
 * The processors whose time the quotas of all control groups allow ("1.5" is possible), or null without a
 * quota. A container with `--cpus 2` on a machine of 64 processors may run on each of them, but two seconds a
 * second altogether; with 64 threads it would stand still most of the time. Node.js's availableParallelism
 * knows quotas only in newer versions.
 *
 * @param root root of the file system, for tests.
 */
export function processorQuota(root = '/'): number | null {
  const quotas = controlGroups('cpu', root).flatMap(({ folder, version }) => {
    const read = (name: string) => textOrNull(join(folder, name))?.trim() ?? '';
    // Without a quota, version 2 says "max", and version 1 -1.
    const [quota, period] =
      version === 2 ? read('cpu.max').split(' ') : [read('cpu.cfs_quota_us'), read('cpu.cfs_period_us')];
    const processors = Number(quota || Number.NaN) / Number(period);
    return processors > 0 && Number.isFinite(processors) ? [processors] : [];
  });
  return quotas.length === 0 ? null : Math.min(...quotas);
}

/** Like `addon.host()`, with whole processors of the quota, at least one. */
export function hostOf(addon: Pick<NativeAddon, 'host'>, quota = processorQuota()): HostInfo {
  const host = addon.host();
  const allowed = Math.max(1, Math.floor(quota ?? host.processors));
  return { ...host, processors: Math.min(host.processors, allowed) };
}
