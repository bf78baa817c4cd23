import { execFileSync } from 'node:child_process';

/** The addon, build/orch_test and the emulated GPU. */
export default function setup(): void {
  execFileSync('bash', ['scripts/build-native.sh', '--tests'], { stdio: 'inherit' });
}
