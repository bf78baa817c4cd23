import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { hostOf, processorQuota } from '../../../src/native/host.js';
import { native } from '../../../src/native/load.js';
import { temporaryFolder } from '../../support/folders.js';

const folder = temporaryFolder();

function root(name: string, files: Record<string, string>): string {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name, path)), { recursive: true });
    writeFileSync(join(folder, name, path), text);
  }
  return join(folder, name);
}

describe('the quota of processors', () => {
  test('is the smallest of the own group and those above it (version 2)', () => {
    const nested = root('v2', {
      'proc/self/cgroup': '0::/slurm/job_7/step_0\n',
      'sys/fs/cgroup/slurm/job_7/step_0/cpu.max': 'max 100000\n',
      'sys/fs/cgroup/slurm/job_7/cpu.max': '250000 100000\n',
      'sys/fs/cgroup/slurm/cpu.max': '3200000 100000\n',
    });
    expect(processorQuota(nested)).toBe(2.5);
    const container = root('own', {
      'proc/self/cgroup': '0::/\n',
      'sys/fs/cgroup/cpu.max': '50000 100000\n',
    });
    expect(processorQuota(container)).toBe(0.5);
  });

  test('is that of the cpu controller (version 1)', () => {
    const old = root('v1', {
      'proc/self/cgroup': '12:cpuacct,cpu:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/docker/abc\n',
      'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
      'sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us': '400000\n',
      'sys/fs/cgroup/cpu/docker/cpu.cfs_period_us': '100000\n',
    });
    expect(processorQuota(old)).toBe(4);
  });

  test('is none where nothing limits, or nothing can be read', () => {
    const unlimited = root('none', {
      'proc/self/cgroup': '3:cpu:/\n4:cpuset:/x\n0::/user\n',
      'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
      'sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
      'sys/fs/cgroup/user/cpu.max': 'max 100000\n',
    });
    expect(processorQuota(unlimited)).toBeNull();
    expect(processorQuota(join(folder, 'nowhere'))).toBeNull();
  });
});

test('a host has the whole processors of its quota, at least one, and not more than there are', () => {
  const all = native().host();
  const machine = { host: () => ({ ...all, processors: 8 }) };
  const processors = (quota: number | null) => hostOf(machine, quota).processors;
  expect([null, 64, 8, 2.5, 1, 0.3].map(processors)).toEqual([8, 8, 8, 2, 1, 1]);
  expect(hostOf(machine, 1)).toEqual({ ...all, processors: 1 });
});
