import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { checkAddon } from '../../../src/doctor/addon.js';
import { checkCuda } from '../../../src/doctor/cuda.js';
import { checkCores, checkDisk, checkMemory, checkNode } from '../../../src/doctor/machine.js';
import { resolvePrecision } from '../../../src/engine/precision.js';
import { temporaryFolder } from '../../support/folders.js';

const folder = temporaryFolder();

/** A file that `require` loads as the addon would be; Node.js takes .cjs for JavaScript. */
function addon(name: string, source: string): string {
  const path = join(folder, `${name}.cjs`);
  writeFileSync(path, source);
  return path;
}

describe('checks of doctor', () => {
  test('want a Node.js that package.json serves, and warn of one that is not tested', () => {
    const known = '20 from 20.19, 22 from 22.12, 24 from 24.0';
    for (const version of ['20.19.0', '20.20.2', '22.12.0', '24.0.0', '24.21.0'])
      expect(checkNode(version)).toMatchObject({ status: 'ok', detail: `v${version}` });
    for (const version of ['25.0.0', '26.1.0'])
      expect(checkNode(version)).toMatchObject({
        status: 'warning',
        detail: `v${version}; tested versions: ${known}`,
      });
    for (const version of ['18.20.0', '20.18.3', '21.7.0', '22.11.0', '23.0.0'])
      expect(checkNode(version)).toMatchObject({
        status: 'failed',
        detail: `v${version}; supported versions: ${known}`,
        fix: 'install Node.js 22',
      });
  });

  test('warn of a quota of processors', () => {
    expect(checkCores(null).status).toBe('ok');
    const detail = (quota: string) =>
      expect.stringMatching(`; the control group allows the time of ${quota}$`);
    expect(checkCores(1)).toMatchObject({ status: 'ok' });
    expect(checkCores(0.5)).toMatchObject({
      status: 'warning',
      detail: detail('0.5'),
      fix: 'raise the quota',
    });
  });

  test('warn of little memory, and heed the limit of the container', () => {
    const gib = 2 ** 30;
    const machine = { bytes: 16 * gib, source: 'this machine has', free: 8 * gib };
    expect(checkMemory(machine)).toMatchObject({
      status: 'ok',
      detail: '8.0 GiB available of 16.0 GiB',
    });
    expect(checkMemory({ ...machine, bytes: gib })).toMatchObject({
      status: 'warning',
      detail: '1.0 GiB available of 1.0 GiB',
    });
  });

  test('fail for a folder that is not there', () => {
    expect(checkDisk(folder).detail).toContain(folder);
    expect(checkDisk(join(folder, 'none')).status).toBe('failed');
  });
});

describe('the probe of the addon', () => {
  test('says how to build one that is missing', () => {
    expect(checkAddon(join(folder, 'none.node'))).toMatchObject([{ status: 'failed', fix: 'npm run setup' }]);
  });

  test('survives one that kills its process', () => {
    const path = addon('crash', "process.kill(process.pid, 'SIGILL');");
    expect(checkAddon(path)).toMatchObject([{ status: 'failed', detail: expect.stringContaining('SIGILL') }]);
  });

  test('names a missing library', () => {
    const path = addon(
      'library',
      "throw new Error('libexample.so.2: cannot open shared object file: No such file');",
    );
    expect(checkAddon(path)).toMatchObject([
      { status: 'failed', detail: 'cannot be loaded: libexample.so.2 is missing', fix: 'npm run setup' },
    ]);
  });

  test('refuses a file that is not an addon', () => {
    const path = join(folder, 'garbage.node');
    writeFileSync(path, 'not an ELF file');
    expect(checkAddon(path)).toMatchObject([
      { status: 'failed', detail: expect.stringContaining('cannot be loaded') },
    ]);
  });

  test('reports what the addon says of the machine', () => {
    const host = { isa: 'avx2', fastBf16: false, kernels: '3', processors: 2 };
    const path = addon('host', `exports.host = () => (${JSON.stringify(host)});`);
    expect(checkAddon(path)).toEqual([
      { name: 'addon', status: 'ok', detail: 'loads', fix: null },
      { name: 'isa', status: 'ok', detail: 'avx2', fix: null },
      { name: 'precision', status: 'ok', detail: 'fp32 (auto: avx2 has no fast bf16)', fix: null },
    ]);
  });

  test('says which instruction sets were never run on a real machine', () => {
    for (const isa of ['neon', 'neonbf16']) {
      const path = addon(isa, `exports.host = () => ({ isa: '${isa}', fastBf16: false, processors: 2 });`);
      expect(checkAddon(path)).toContainEqual({
        name: 'isa',
        status: 'ok',
        detail: `${isa}, tested under emulation only`,
        fix: null,
      });
    }
  });
});

describe('CUDA', () => {
  const without = addon(
    'no-cuda',
    "exports.cudaDevices = async () => { throw new Error('CUDA is off: liborchestrator_cuda.so is not built'); };",
  );
  /** What nvidia-smi lists on this machine; null = there is none. */
  const machine = (name: string, listed: string | null) => {
    const path = join(folder, name);
    mkdirSync(path);
    if (listed !== null)
      writeFileSync(join(path, 'nvidia-smi'), `#!/bin/sh\nprintf '${listed}'\n`, { mode: 0o755 });
    vi.stubEnv('PATH', path);
  };
  afterEach(() => vi.unstubAllEnvs());

  test('is not missed on a machine without a GPU', () => {
    machine('no-smi', null);
    expect(checkCuda(without)).toMatchObject({
      status: 'note',
      detail: expect.stringMatching(
        /^no GPU, which only `device: cuda` needs \(liborchestrator_cuda\.so is not built; no nvidia-smi; /,
      ),
    });
    machine('no-device', '');
    expect(checkCuda(without)).toMatchObject({
      status: 'note',
      detail: expect.stringContaining('nvidia-smi lists no device'),
    });
  });

  test('warns of a GPU that cannot be used, with the remedy', () => {
    machine('gpu', 'NVIDIA H100, 80 GiB, 580.1\\n');
    expect(checkCuda(without)).toMatchObject({
      status: 'warning',
      detail: expect.stringMatching(/^there is a GPU, but it cannot be used \(.* not built; NVIDIA H100, 80/),
      fix: expect.stringContaining('npm run build:cuda'),
    });
  });

  test('lists the devices that can be used', () => {
    const device = { name: 'NVIDIA H100', memoryBytes: 80 * 2 ** 30, libraries: 'CUDA 13', problem: null };
    const path = addon('cuda', `exports.cudaDevices = async () => [${JSON.stringify(device)}];`);
    expect(checkCuda(path)).toMatchObject({
      status: 'ok',
      detail: 'on: GPU 0: NVIDIA H100, 80.0 GiB; CUDA 13',
    });
  });
});

describe('precision', () => {
  test('auto follows the machine, other values do not', () => {
    const resolved = (compute: 'auto' | 'fp32' | 'bf16', isa: string, fastBf16: boolean) =>
      resolvePrecision({ compute, linear: 'compute' }, { isa, fastBf16 }).compute;
    expect(resolved('auto', 'avx512bf16', true)).toBe('bf16');
    expect(resolved('fp32', 'avx512bf16', true)).toBe('fp32');
    expect(resolved('bf16', 'avx2', false)).toBe('bf16');
  });
});
