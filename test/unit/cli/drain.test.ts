import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { expect, onTestFinished, test } from 'vitest';
import { register } from '../../../src/cli/commands/drain.js';
import { lockFile } from '../../../src/native/lock.js';
import { temporaryFolder } from '../../support/folders.js';

test('for a worker of another host, where no run folder is, the hint is the command that drains it', async () => {
  const runDir = temporaryFolder();
  onTestFinished(lockFile(join(runDir, 'lock')));
  const workers = [
    { id: 'local-0', pid: process.pid, host: 'a.invalid' },
    { id: 'local-1', pid: 4980, host: 'b.invalid' },
  ];
  const line = { generation: 1, min_workers: 1, workers };
  writeFileSync(join(runDir, 'journal.jsonl'), `${JSON.stringify(line)}\n`);
  const program = new Command();
  register(program);
  await expect(
    program.parseAsync(['node', 'orchestrator', 'drain', runDir, 'local-1']),
  ).rejects.toMatchObject({
    message: `Worker local-1 of the run in ${runDir} is on b.invalid`,
    hint: 'Tell it there: ssh b.invalid kill -TERM 4980',
  });
});
