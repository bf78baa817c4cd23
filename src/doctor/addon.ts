/**
 * Checks that the native addon exists and can be loaded, and what it reports about the machine. A child
 * process loads it, because a bad binary may crash it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { resolvePrecision } from '../engine/precision.js';
import type { HostInfo } from '../native/contract.js';
import { addonPath } from '../native/load.js';
import { type Check, failed, ok } from './check.js';

const PROBE = 'process.stdout.write(JSON.stringify(require(process.argv[1]).host()))';
const PROBE_MS = 30_000;
/** Instruction sets with kernels that have never run on a real processor. */
const UNTRIED: Partial<Record<string, string>> = {
  neon: 'tested under emulation only',
  neonbf16: 'tested under emulation only',
};

export function checkAddon(path = addonPath()): Check[] {
  if (!existsSync(path)) return [failed('addon', `not built: ${path} is missing`, 'npm run setup')];
  const probe = spawnSync(process.execPath, ['-e', PROBE, path], { encoding: 'utf8', timeout: PROBE_MS });
  const host = probe.status === 0 ? parseHost(probe.stdout) : null;
  if (host === null) return [diagnose(probe)];
  const precision = resolvePrecision('auto', host);
  return [
    ok('addon', 'builds and loads'),
    ok('isa', host.isa in UNTRIED ? `${host.isa}, ${UNTRIED[host.isa]}` : host.isa),
    ok('precision', `${precision.compute} (${precision.reason})`),
  ];
}

function parseHost(text: string): HostInfo | null {
  try {
    return JSON.parse(text) as HostInfo;
  } catch {
    return null;
  }
}

function diagnose(probe: {
  status: number | null;
  signal: string | null;
  stderr: string;
  error?: Error;
}): Check {
  const rebuild = 'rm build/Release/orchestrator.node && npm run build:native';
  if (probe.signal === 'SIGILL') {
    return failed(
      'addon',
      'loading it ended with SIGILL: this processor lacks an instruction that it uses',
      rebuild,
    );
  }
  if (probe.signal !== null) return failed('addon', `loading it ended with ${probe.signal}`, rebuild);
  const reason =
    /^(?:\w*Error): (.*)$/m.exec(probe.stderr)?.[1] ?? probe.error?.message ?? probe.stderr.trim();
  const missing = /^(lib\S+\.so\S*): cannot open shared object file/.exec(reason);
  if (missing !== null) return failed('addon', `cannot be loaded: ${missing[1]} is missing`, 'npm run setup');
  return failed('addon', `cannot be loaded: ${reason}`, rebuild);
}
