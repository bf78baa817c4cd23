/** Checks that the native addon exists and can be loaded, and what it reports about the machine. */
import { existsSync } from 'node:fs';
import { describePrecision, resolvePrecision } from '../engine/precision.js';
import type { HostInfo } from '../native/contract.js';
import { addonPath } from '../native/load.js';
import { type Check, failed, ok, type Probe, probe, warning } from './check.js';

const PROBE = `const { host, faults } = require(process.argv[1]);
  process.stdout.write(JSON.stringify({ ...host(), forTests: faults !== undefined }))`;
/** Instruction sets with kernels that have never run on a real processor. */
const EMULATED = ['neon', 'neonbf16'];
const OF_TESTS = 'loads, and has fault points (ORCH_FAULTS=ON): it is for tests alone';

export function checkAddon(path = addonPath()): Check[] {
  if (!existsSync(path)) return [failed('addon', `${path} is missing`, 'npm run setup')];
  const found = probe(PROBE, path);
  if (found.status !== 0) return [diagnose(found)];
  const host = JSON.parse(found.stdout) as HostInfo & { forTests: boolean };
  const precision = resolvePrecision({ compute: 'auto', linear: 'compute' }, host);
  return [
    host.forTests ? warning('addon', OF_TESTS, 'unset ORCHESTRATOR_ADDON') : ok('addon', 'loads'),
    ok('isa', EMULATED.includes(host.isa) ? `${host.isa}, tested under emulation only` : host.isa),
    ok('precision', describePrecision(precision)),
  ];
}

function diagnose({ signal, stderr, error }: Probe): Check {
  const rebuild = 'rm build/Release/orchestrator.node && npm run build:native';
  if (signal !== null) {
    const why = signal === 'SIGILL' ? ': this processor lacks an instruction that it uses' : '';
    return failed('addon', `loading it ended with ${signal}${why}`, rebuild);
  }
  const reason = /^(?:\w*Error): (.*)$/m.exec(stderr)?.[1] ?? error?.message ?? stderr.trim();
  const [, library] = /^(lib\S+\.so\S*): cannot open shared object file/.exec(reason) ?? [];
  if (library === undefined) return failed('addon', `cannot be loaded: ${reason}`, rebuild);
  return failed('addon', `cannot be loaded: ${library} is missing`, 'npm run setup');
}
