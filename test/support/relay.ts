/** The program by which hosts of a test are joined where packets are to take their time (relay.c). */
import { execFileSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { pathOf } from './needs.js';

/** Why there can be no relay here; null: there can. */
export function noRelay(): string | null {
  if (pathOf('gcc') === null) return 'needs gcc';
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
    return null;
  } catch {
    return 'needs /dev/net/tun';
  }
}

/** Compiles it into a folder, and returns its path. */
export function relayProgram(folder: string): string {
  const program = join(folder, 'relay');
  execFileSync('gcc', ['-O2', '-Wall', '-Werror', '-o', program, 'test/support/relay.c'], {
    stdio: 'inherit',
  });
  return program;
}
