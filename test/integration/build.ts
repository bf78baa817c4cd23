import { execFileSync } from 'node:child_process';

/** Integration tests run dist/, so it has to be what src/ says. */
export default function setup(): void {
  execFileSync('bash', ['scripts/build-ts.sh'], { stdio: 'inherit' });
}
