import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { memorySize } from '../../../src/cli/arguments.js';
import { loadConfig } from '../../../src/config/load.js';
import { requireMemory } from '../../../src/engine/memory.js';
import { gib, refusal, tightness } from '../../../src/memory/fit.js';
import { controlGroupLimits, machineMemory, outOfMemoryKills } from '../../../src/memory/machine.js';
import { totalBytes } from '../../../src/memory/parts.js';
import { native } from '../../../src/native/load.js';
import { estimate } from '../../../src/planning/estimate.js';
import { yaml } from '../../support/config.js';
import { temporaryFolder } from '../../support/folders.js';

const GIB = 2 ** 30;
const need = {
  who: 'The run needs',
  parts: [
    { name: 'gradients, 3 x fp32', bytes: 12 * GIB },
    { name: 'weights, fp32', bytes: 4 * GIB },
    { name: 'weights, 1 x bf16', bytes: 2 * GIB },
    { name: 'positions', bytes: GIB / 100 },
  ],
};
const total = totalBytes(need.parts);
const place = (bytes: number, free = bytes) => ({ source: 'this machine has', bytes, free });
const hint = () => 'what to do';

describe('a run and a machine', () => {
  test('are refused with need, memory and difference, and the largest parts', () => {
    const error = refusal(need, place(16 * GIB), hint);
    expect(error).toMatchObject({
      code: 'ERR_OUT_OF_MEMORY',
      message:
        'The run needs at least 18.0 GiB of memory, and this machine has 16.0 GiB: 2.1 GiB are missing. The largest parts: gradients 12.0 GiB, weights 6.0 GiB.',
      hint: 'what to do',
    });
  });

  test('are refused by a single byte, and not where the run fits exactly', () => {
    const never = () => {
      throw new Error('nobody asked for a hint');
    };
    expect(refusal(need, place(total), never)).toBeNull();
    expect(refusal(need, place(total - 1), hint)?.message).toContain(': 1 MiB are missing.');
  });

  test('are warned of where other programs hold what is missing', () => {
    expect(tightness(need, place(24 * GIB, total))).toBeNull();
    expect(tightness(need, { ...place(24 * GIB), free: null })).toBeNull();
    expect(tightness(need, place(24 * GIB, 10 * GIB))).toBe(
      'The run needs at least 18.0 GiB of memory, and this machine has 24.0 GiB, of which 10.0 GiB are free now: unless 8.1 GiB become free, the system may kill the run',
    );
  });

  test('are told in GiB, however large', () => {
    expect([gib(3000 * GIB), gib(23.54 * GIB), gib(GIB / 2)]).toEqual(['3000.0 GiB', '23.5 GiB', '512 MiB']);
  });
});

describe('the memory of a machine', () => {
  const folder = temporaryFolder();
  const root = (name: string, files: Record<string, string>): string => {
    for (const [path, text] of Object.entries(files)) {
      const file = join(folder, name, path);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, text);
    }
    return join(folder, name);
  };

  test('is what the groups above the own one allow, as under Slurm', () => {
    const limits = controlGroupLimits(
      root('slurm', {
        'proc/self/cgroup': '0::/slurm/job_7/step_0/task_0\n',
        'sys/fs/cgroup/slurm/job_7/step_0/task_0/memory.max': 'max\n',
        'sys/fs/cgroup/slurm/job_7/memory.max': `${32 * GIB}\n`,
        'sys/fs/cgroup/slurm/job_7/memory.current': `${6 * GIB}\n`,
        'sys/fs/cgroup/slurm/job_7/memory.stat': `anon 1\ninactive_file ${4 * GIB}\n`,
      }),
    );
    expect(limits).toEqual([{ group: '/slurm/job_7', bytes: 32 * GIB, free: 30 * GIB }]);
    expect(machineMemory(limits, 500 * GIB, 400 * GIB)).toEqual({
      bytes: 32 * GIB,
      source: 'the control group /slurm/job_7 allows',
      free: 30 * GIB,
    });
  });

  test("is a container's limit, where its path is the host's (version 1) or its own root (version 2)", () => {
    const old = root('v1', {
      'proc/self/cgroup':
        '12:cpu,cpuacct:/x\n4:memory:/kubepods/pod1/abc\n1:name=systemd:/kubepods/pod1/abc\n',
      'sys/fs/cgroup/memory/memory.limit_in_bytes': `${8 * GIB}\n`,
      'sys/fs/cgroup/memory/memory.usage_in_bytes': `${GIB}\n`,
    });
    expect(controlGroupLimits(old)).toEqual([{ group: '/', bytes: 8 * GIB, free: 7 * GIB }]);
    const own = root('v2', {
      'proc/self/cgroup': '0::/\n',
      'sys/fs/cgroup/memory.max': `${8 * GIB}\n`,
      'sys/fs/cgroup/memory.current': `${9 * GIB}\n`,
    });
    expect(controlGroupLimits(own)).toEqual([{ group: '/', bytes: 8 * GIB, free: 0 }]);
  });

  test('tells how many of its processes were killed, in both versions of control groups', () => {
    const events = 'low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n';
    const v2 = root('killed-v2', {
      'proc/self/cgroup': '0::/job/task\n',
      'sys/fs/cgroup/job/task/memory.events': events,
      'sys/fs/cgroup/job/memory.events': events.replace('oom_kill 2', 'oom_kill 7'),
    });
    expect(outOfMemoryKills(v2)).toBe(2);
    const v1 = root('killed-v1', {
      'proc/self/cgroup': '4:memory:/job\n',
      'sys/fs/cgroup/memory/job/memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 1\n',
    });
    expect(outOfMemoryKills(v1)).toBe(1);
    expect(outOfMemoryKills(join(folder, 'nowhere'))).toBeNull();
  });

  test('is all there is, where nothing limits it or nothing can be read', () => {
    const unlimited = root('unlimited', {
      'proc/self/cgroup': '4:memory:/user\n0::/user/../..\nnot a line\n',
      'sys/fs/cgroup/memory/user/memory.limit_in_bytes': '9223372036854771712\n',
      'sys/fs/cgroup/user/memory.max': 'max\n',
    });
    expect(controlGroupLimits(unlimited)).toEqual([]);
    expect(controlGroupLimits(join(folder, 'nowhere'))).toEqual([]);
    const machine = { bytes: 24 * GIB, source: 'this machine has', free: 20 * GIB };
    expect(machineMemory([], 24 * GIB, 20 * GIB)).toEqual(machine);
    // A limit above what there is limits nothing.
    const generous = { group: '/x', bytes: 64 * GIB, free: 60 * GIB };
    expect(machineMemory([generous], 24 * GIB, 20 * GIB)).toEqual(machine);
    expect(machineMemory().bytes).toBeGreaterThan(0);
  });

  test('is given on the command line in binary units', () => {
    expect(['24GiB', '24G', '24Gi', '0.5TiB', '512 MiB'].map(memorySize)).toEqual([
      24 * GIB,
      24 * GIB,
      24 * GIB,
      512 * GIB,
      GIB / 2,
    ]);
    for (const text of ['24', '', '-1GiB', '0GiB', 'GiB', '24KB', '1e3G'])
      expect(() => memorySize(text)).toThrow('Expected a size in MiB, GiB or TiB');
  });
});

const RUN = `
name: x
data: {path: nowhere, latent_shape: [16, 32, 32], text_shape: {clip_l: [77, 64], clip_g: [77, 96], t5: [77, 256]}}
model: {depth: 4, hidden: 512, pos_embed_max_size: 32}
batch: {global: 8, micro: 1}
threads: 2
`;

describe('what a machine must have for a run', () => {
  const needOf = async (nodes: number, ...sets: string[]) =>
    totalBytes((await estimate(native(), loadConfig(yaml(RUN), sets, {}), nodes, null)).machine);

  test('is the state once where workers share it, and once for each where they do not', async () => {
    const shared = await needOf(3, 'precision.compute=fp32');
    const apart = await needOf(3, 'precision.compute=fp32', 'exchange=grpc');
    const { parameters } = await estimate(native(), loadConfig(yaml(RUN), [], {}), 1, null);
    // Weights, m, v and EMA, of the two other workers.
    expect((apart - shared) / (2 * 16 * parameters)).toBeCloseTo(1, 2);
  });

  test('is not more than the peaks of the workers, and close to them', async () => {
    for (const nodes of [1, 2, 4]) {
      const { machine, rankBytes } = await estimate(native(), loadConfig(yaml(RUN), [], {}), nodes, null);
      const peaks = rankBytes.reduce((sum, peak) => sum + peak, 0);
      expect(totalBytes(machine)).toBeLessThan(peaks);
      expect(totalBytes(machine)).toBeGreaterThan(peaks - nodes * 64 * 2 ** 20);
    }
  });

  test('does not count moments of frozen parameters, which nobody writes', async () => {
    const blocks = [0, 1, 2, 3].map((block) => `joint_blocks.${block}.*`);
    const saved = (await needOf(1)) - (await needOf(1, `freeze=[${blocks.join(', ')}]`));
    const { parameters } = await estimate(native(), loadConfig(yaml(RUN), [], {}), 1, null);
    expect(saved).toBeGreaterThan(0.8 * 8 * parameters);
    expect(saved).toBeLessThan(8 * parameters);
    // Workers that share memory are given all of it at the start.
    expect(await needOf(2)).toBe(await needOf(2, `freeze=[${blocks.join(', ')}]`));
  });

  test('is, of a GPU, for a new run whose gradients may go over NCCL', async () => {
    const gpu = await needOf(2, 'device=cuda');
    expect(gpu).toBeLessThan(await needOf(2, 'device=cuda', 'exchange=grpc'));
    const { rankBytes } = await estimate(native(), loadConfig(yaml(RUN), ['device=cuda'], {}), 2, null);
    expect(gpu).toBeLessThan(rankBytes.reduce((sum, bytes) => sum + bytes, 0));
  });

  test('is asked before a model is opened for prediction', async () => {
    const { spec } = await estimate(native(), loadConfig('configs/sd3-medium.yaml', [], {}), 1, null);
    const forward = { ...spec, training: false, recompute: 'nothing' as const };
    expect(() => requireMemory(native(), forward, place(8 * GIB))).toThrow(
      /^The model needs at least \d+\.\d GiB of memory, and this machine has 8\.0 GiB: .* weights 11\.3 GiB/,
    );
    requireMemory(native(), forward, place(64 * GIB));
    requireMemory(native(), { ...forward, device: 0 }, place(8 * GIB));
  });
});
