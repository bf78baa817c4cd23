/** `orchestrator host-link`: a host's part in the test of connections by `doctor --hosts`. */
import type { Command } from 'commander';
import { probeLinks } from '../../launch/link-probe.js';

export function register(program: Command): void {
  program
    .command('host-link', { hidden: true })
    .description('a part in the test of connections between hosts, as JSON; started by doctor --hosts')
    .action(async () => {
      await probeLinks(process.stdin, process.stdout);
      // A connection that another host has left open does not keep the process.
      process.exit(0);
    });
}
