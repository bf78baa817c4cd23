/**
 * Disturbs runs at random moments, and compares each with a run that nothing disturbs:
 * `npm run soak -- --faults N --seed S --minutes M --jobs J`. A seed gives the same faults of each run, in the same
 * order and with the same waits. J runs are disturbed at the same time, each with an undisturbed one after it. Exits
 * with 1 at the first run that hangs, fails or has other bits, whose folders stay, and with 2 if the time is over
 * before all faults.
 */
import { parseArgs } from 'node:util';
import { print } from './report.js';
import { Soak } from './soak-runs.js';

const { values } = parseArgs({
  options: {
    faults: { type: 'string', default: '500' },
    seed: { type: 'string', default: '1' },
    minutes: { type: 'string', default: '45' },
    jobs: { type: 'string', default: '1' },
  },
});

function number(name: keyof typeof values): number {
  const text = values[name];
  if (/^\d{1,9}$/.test(text)) return Number(text);
  process.stderr.write(`--${name}: expected a number, received ${text}\n`);
  process.exit(2);
}

const soak = new Soak(number('faults'), number('seed'), number('minutes'), print);
process.exitCode = await soak.run(number('jobs'));
