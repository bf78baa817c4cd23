/** `orchestrator completion`: completion of the command line in shells. */
import { Argument, type Command } from 'commander';
import { SHELLS } from '../completion.js';

export function register(program: Command): void {
  program
    .command('completion')
    .description(
      'print a script that completes commands and options: `source <(orchestrator completion bash)`',
    )
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(SHELLS)))
    .action((shell: keyof typeof SHELLS) => void process.stdout.write(SHELLS[shell](program)));
}
