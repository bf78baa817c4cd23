/** `orchestrator logs`: the events of a run, for people. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { OrchestratorError } from '../../errors.js';
import { completeLines, parseLine } from '../../files/jsonl.js';
import { linesFromEnd } from '../../files/jsonl-seek.js';
import { lockOwner } from '../../native/lock.js';
import { LOCK, LOG } from '../../run-folder/run-dir.js';
import { eventLine } from '../../telemetry/events.js';
import { printable } from '../../text/printable.js';
import { wholeNumber } from '../arguments.js';
import { printFields } from '../output.js';
import { RUN, runFolder } from '../run-folder.js';

const POLL_MS = 200;

interface LogsFlags {
  follow?: true;
  lines?: number;
  json?: true;
}

export function register(program: Command): void {
  program
    .command('logs')
    .description('print what happened in a run: the events of its run.log, with their times')
    .argument('<run>', RUN)
    .option('-f, --follow', 'go on printing until the run ends')
    .option(
      '-n, --lines <n>',
      'print only so many of the last lines, and with --follow what comes then',
      wholeNumber,
    )
    .option('--json', 'print the lines of run.log as they are')
    .action(async (run: string, { follow, lines, json }: LogsFlags) => {
      const runDir = runFolder(run);
      const path = join(runDir, LOG);
      const isRunning = () => lockOwner(join(runDir, LOCK)) !== null;
      const print = (line: string) => {
        const event = parseLine(line);
        const text = json || event === null ? line : (eventLine(event) ?? line);
        const shown = printable(text, Number.POSITIVE_INFINITY);
        if (json) process.stdout.write(`${shown}\n`);
        else printFields(shown);
      };
      let printed = lines === undefined ? 0 : offsetOfLast(path, lines);
      for (;;) {
        // Asked before reading, so that what an ending run writes last is printed.
        const more = follow === true && isRunning();
        for (const { line, end } of completeLines(path, printed)) {
          printed = end;
          print(line);
        }
        if (!more) break;
        await sleep(POLL_MS);
      }
      if (printed === 0) {
        const when = isRunning() ? 'it is written from the first step on' : 'no step was begun';
        throw new OrchestratorError('ERR_RUN_DIR', `${runDir} has no ${LOG} yet: ${when}`);
      }
    });
}

/** Where the last lines of a file begin; the end of its complete lines if `count` is 0. */
function offsetOfLast(path: string, count: number): number {
  let offset = 0;
  let left = count;
  for (const { start, end } of linesFromEnd(path)) {
    if (left === 0) return end;
    offset = start;
    left--;
  }
  return offset;
}
