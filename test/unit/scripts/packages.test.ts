import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { temporaryFolder } from '../../support/folders.js';

/**
 * Runs require_packages with a PATH that holds only what a test puts there, so that nothing real is
 * installed.
 */
describe('require_packages', () => {
  let bin: string;
  let calls: string;

  beforeEach(() => {
    bin = temporaryFolder();
    calls = join(bin, 'calls');
    for (const tool of ['bash', 'mktemp', 'tail', 'rm', 'env']) {
      const path = [`/usr/bin/${tool}`, `/bin/${tool}`].find((candidate) => existsSync(candidate))!;
      symlinkSync(path, join(bin, tool));
    }
  });

  function command(name: string, body: string): void {
    writeFileSync(join(bin, name), `#!${bin}/bash\n${body}\n`, { mode: 0o755 });
  }

  function requirePackages(...entries: string[]): { status: number | null; stdout: string; stderr: string } {
    const script = '. scripts/packages.sh; require_packages "to build" "$@"; echo done';
    return spawnSync(join(bin, 'bash'), ['-c', script, 'bash', ...entries], {
      encoding: 'utf8',
      env: { PATH: bin, TMPDIR: bin },
      input: '',
    });
  }

  const log = (): string[] => (existsSync(calls) ? readFileSync(calls, 'utf8').trim().split('\n') : []);

  test('does nothing where everything is there', () => {
    command('apt-get', `echo "$@" >>${calls}`);
    expect(requirePackages('cmake:true', 'g++:true')).toMatchObject({ status: 0, stdout: 'done\n' });
    expect(log()).toEqual([]);
  });

  test('installs what is missing as root, and says which', () => {
    command('id', 'echo 0');
    command('apt-get', `echo "$@" >>${calls}`);
    const { status, stdout } = requirePackages('cmake:true', 'g++:false', 'make:false');
    expect(status).toBe(0);
    expect(stdout).toContain('Missing system packages (to build): g++ make\n');
    expect(log()).toEqual([
      '-o DPkg::Lock::Timeout=300 update',
      '-o DPkg::Lock::Timeout=300 install -y --no-install-recommends g++ make',
    ]);
  });

  test('uses sudo where it asks for no password', () => {
    command('id', 'echo 1000');
    command('sudo', `if [ "$1" = -n ]; then exit 0; fi; echo "sudo $1" >>${calls}; "$@"`);
    command('apt-get', `echo "$@" >>${calls}`);
    expect(requirePackages('make:false').status).toBe(0);
    expect(log()).toEqual([
      'sudo apt-get',
      '-o DPkg::Lock::Timeout=300 update',
      'sudo env',
      '-o DPkg::Lock::Timeout=300 install -y --no-install-recommends make',
    ]);
  });

  test.each([
    ['without sudo', null],
    ['with a sudo that wants a password and nobody to ask', 'exit 1'],
  ])('prints the exact command and exits 2 without root, %s', (_, sudo) => {
    command('id', 'echo 1000');
    if (sudo !== null) command('sudo', sudo);
    command('apt-get', `echo "$@" >>${calls}`);
    const { status, stdout, stderr } = requirePackages('make:false', 'cmake:false');
    expect(status).toBe(2);
    expect(stdout).not.toContain('done');
    expect(stderr).toContain(
      '  sudo apt-get update && sudo apt-get install -y --no-install-recommends make cmake\n',
    );
    expect(log()).toEqual([]);
  });

  test('shows the end of what apt-get said where it fails', () => {
    command('id', 'echo 0');
    command('apt-get', 'echo "E: Unable to locate package"; exit 100');
    const { status, stderr } = requirePackages('make:false');
    expect(status).toBe(1);
    expect(stderr).toContain('E: Unable to locate package');
  });

  test('exits 2 where there is no apt-get', () => {
    expect(requirePackages('make:false')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('no apt-get'),
    });
  });

  describe('lists of packages', () => {
    function packagesOf(list: string): string[] {
      const path = join(bin, 'list');
      writeFileSync(path, list);
      const script = `. scripts/packages.sh; packages_of "$1"; printf "%s\\n" "\${packages[@]}"`;
      const { stdout } = spawnSync(join(bin, 'bash'), ['-c', script, 'bash', path], {
        encoding: 'utf8',
        env: { PATH: bin },
      });
      return stdout.trim().split('\n');
    }

    test('become entries, comments left out', () => {
      command('apt-cache', 'exit 1');
      expect(packagesOf('# PACKAGE PROGRAM\nqemu-user qemu-aarch64\n\nmount umount\n')).toEqual([
        'qemu-user:command -v qemu-aarch64',
        'mount:command -v umount',
      ]);
    });

    test('name the first package that the system knows, where none of the programs is there', () => {
      const list = 'tool-14|tool tool-14|tool\n';
      const test = 'command -v tool-14 || command -v tool';
      command('apt-cache', '[ "$2" = tool ]');
      expect(packagesOf(list)).toEqual([`tool:${test}`]);
      command('apt-cache', 'exit 0');
      expect(packagesOf(list)).toEqual([`tool-14:${test}`]);
      command('tool', 'exit 0');
      expect(spawnSync(join(bin, 'bash'), ['-c', test], { env: { PATH: bin } }).status).toBe(0);
    });

    test('of set-up are a compiler and cmake', () => {
      command('apt-cache', 'exit 0');
      expect(packagesOf(readFileSync('scripts/packages-setup.txt', 'utf8'))).toEqual([
        'cmake:command -v cmake',
        'g++:command -v g++',
        'make:command -v make',
      ]);
    });
  });
});
