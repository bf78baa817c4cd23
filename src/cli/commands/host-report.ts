/** `orchestrator host-report`: what `launch --hosts` asks of every host. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { hostReport, hostRequestSchema } from '../../launch/host-report.js';

const STANDARD_INPUT = 0;

export function register(program: Command): void {
  program
    .command('host-report', { hidden: true })
    .description('what this host has for a run, as JSON; asked by launch --hosts')
    .action(async () => {
      const request = hostRequestSchema.parse(JSON.parse(readFileSync(STANDARD_INPUT, 'utf8')));
      process.stdout.write(`${JSON.stringify(await hostReport(request))}\n`);
    });
}
