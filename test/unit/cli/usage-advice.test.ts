import { expect, test } from 'vitest';
import { usageAdvice } from '../../../src/cli/usage-advice.js';

test.each([
  ["unknown option '--config'", [], 'The configuration is an argument, without an option: launch run.yaml'],
  [
    "unknown option '--nnodes'",
    [],
    'Here it is the option --nodes of `orchestrator launch` (groups of processes on this machine; other hosts are named by --hosts)',
  ],
  [
    "unknown option '--rdzv-endpoint'",
    [],
    'Here it is the option --hosts of `orchestrator launch` (on one machine, which starts the workers of all and connects them; --listen is for hosts without ssh)',
  ],
  ["unknown option '--learning-rate'", [], 'Here it is optimizer.lr: --set optimizer.lr=VALUE'],
  ["unknown option '--zzz'", [], null],
  ["unknown command 'train'", [], 'Here it is `orchestrator launch`'],
  ["unknown command 'constructor'", [], null],
  [
    "too many arguments for 'launch'",
    ['launch', 'x.yaml', '--set', 'a.b=1', 'batch.micro=8'],
    'A key of the configuration is set with --set batch.micro=8',
  ],
  ["too many arguments for 'launch'", ['launch', 'x.yaml', 'y.yaml'], null],
])('what others have is told in our words: %s %j', (message, args, advice) => {
  expect(usageAdvice(`error: ${message}`, args)).toBe(advice);
});
