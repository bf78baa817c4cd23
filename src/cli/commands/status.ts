/** `orchestrator status`: what a run is doing. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { askStatus } from '../../coordinator/status-socket.js';
import { OrchestratorError } from '../../errors.js';
import { lockOwner } from '../../native/lock.js';
import { recordedRun } from '../../run-folder/recorded-run.js';
import { LOCK } from '../../run-folder/run-dir.js';
import { painter, wantsColour } from '../../telemetry/console.js';
import type { RunView } from '../../telemetry/run-progress.js';
import { memberLines, viewLines } from '../../telemetry/view-lines.js';
import { allPrintable } from '../../text/printable.js';
import { pageColumns, printResult } from '../output.js';
import { RUN, runFolder } from '../run-folder.js';

const WATCH_SECONDS = 2;

interface StatusFlags {
  watch?: true;
  json?: true;
}

export function register(program: Command): void {
  program
    .command('status')
    .description('print what a run is doing: step, remaining time, loss, validation, checkpoint, workers')
    .argument('<run>', RUN)
    .option('-w, --watch', `print it again every ${WATCH_SECONDS} seconds until the run ends`)
    .option('--json', 'print JSON')
    .action(async (run: string, { watch, json }: StatusFlags) => {
      const runDir = runFolder(run);
      if (!watch) {
        const { state, note } = await stateOf(runDir);
        printResult(state, json, () => page(state, note));
        return;
      }
      if (json) {
        throw new OrchestratorError(
          'ERR_USAGE',
          '--watch does not go with --json',
          'Without --watch, the command can be called as often as its JSON is needed',
        );
      }
      for (;;) {
        // Asked before the state, so that the last page says how the run ended.
        const isRunning = lockOwner(join(runDir, LOCK)) !== null;
        const { state, note } = await stateOf(runDir);
        // The screen is cleared from its top, as `watch` does; a pipe gets one page after the other.
        process.stdout.write(`${process.stdout.isTTY ? '\u001b[H\u001b[J' : ''}${page(state, note)}`);
        if (!isRunning) return;
        await sleep(1000 * WATCH_SECONDS);
      }
    });
}

/**
 * The state of a run, and a line that says where it is from, unless its coordinator has told it. Whoever may
 * write in the folder may have put anything there.
 */
async function stateOf(runDir: string) {
  const asked = await askStatus(runDir);
  if (asked !== null && asked !== 'other version') {
    return { state: allPrintable({ ...asked, live: true }), note: null };
  }
  const { view } = await recordedRun(runDir);
  const why = asked === null ? '' : ', because its coordinator is of another version';
  return { state: allPrintable({ ...view, live: false }), note: `from the files of ${runDir}${why}` };
}

function page(state: RunView, note: string | null): string {
  const paint = painter(wantsColour(process.stdout, process.env));
  const lines = viewLines(state, pageColumns(), paint);
  const workers = memberLines(state.members, pageColumns());
  return `${[...lines, ...workers, ...(note === null ? [] : [note])].join('\n')}\n`;
}
