import { execFileSync } from 'node:child_process';

/** Brings up to date what tests start: dist/, build/orch_test and the emulated GPU. */
export default function setup(): void {
  execFileSync('npm', ['run', '--silent', 'build:ts'], { stdio: 'inherit' });
  execFileSync('bash', ['scripts/build-native.sh', '--tests'], { stdio: 'inherit' });
}
