/** The program by which hosts of a test are joined where packets are to take their time (relay.c). */
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { pathOf } from './needs.js';

/** Why there can be no relay here; null: there can. Needs what hosts need (hosts.ts). */
export function noRelay(): string | null {
  if (pathOf('gcc') === null) return 'needs gcc';
  // The device may be there, and still no interface can be made with it.
  const probe = ['--net', 'ip', 'tuntap', 'add', 'dev', 'probe', 'mode', 'tun'];
  const { status } = spawnSync('unshare', probe, { stdio: 'ignore' });
  return status === 0 ? null : 'needs TUN interfaces, which root may make where there is /dev/net/tun';
}

/** Compiles it into a folder, and returns its path. */
export function relayProgram(folder: string): string {
  const program = join(folder, 'relay');
  execFileSync('gcc', ['-O2', '-Wall', '-Werror', '-o', program, 'test/support/relay.c'], {
    stdio: 'inherit',
  });
  return program;
}
