/** `orchestrator invite`: prints what a worker of another machine needs to join a run. */
import { type Command, Option } from 'commander';
import { othersCanRead } from '../../security/readers.js';
import { timeLimit, workerCount } from '../arguments.js';
import { printNote } from '../output.js';
import { coordinatorOf, RUN, runFolder } from '../run-folder.js';

export function register(program: Command): void {
  program
    .command('invite')
    .description(
      'print a credential with which workers of other machines join a run that listens on a network (launch --listen)',
    )
    .argument('<run>', RUN)
    .option('--uses <n>', 'how many workers may join with it', workerCount, 1)
    .addOption(
      new Option('--expires <time>', 'how long it is valid, such as 15m or 2h')
        .argParser(timeLimit)
        .default(900, '15m'),
    )
    .addHelpText(
      'after',
      '\nIt is a secret: whoever has it may join the run. Give it to a worker in a file that only its user can read (umask 077),\nor on standard input: `ssh HOST orchestrator worker --credential - < FILE`',
    )
    .action(async (run: string, { uses, expires }: { uses: number; expires: number }) => {
      const address = coordinatorOf(runFolder(run), 'invite');
      const { invite } = await import('../../rpc/invite.js');
      const credential = await invite(address, { uses, seconds: expires, worker: null });
      process.stdout.write(`${credential}\n`);
      const exposed = othersCanRead(process.stdout.fd);
      if (exposed !== null) printNote(`warn ${exposed}`);
    });
}
