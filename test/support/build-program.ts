import { execFileSync } from 'node:child_process';

/** Tests start dist/, so it has to be what src/ says. */
export default function setup(): void {
  execFileSync('npm', ['run', '--silent', 'build:ts'], { stdio: 'inherit' });
}
