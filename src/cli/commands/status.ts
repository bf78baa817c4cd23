/** `orchestrator status`: what a run is doing. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { recordedRun } from '../../coordinator/recorded-run.js';
import { askStatus } from '../../coordinator/status-socket.js';
import { OrchestratorError } from '../../errors.js';
import { painter, wantsColour } from '../../telemetry/console.js';
import { viewLines } from '../../telemetry/view-lines.js';
import { positive } from '../arguments.js';
import { pageColumns, printResult } from '../output.js';
import { RUN, runFolder } from '../run-folder.js';

interface StatusFlags {
  /** Seconds. */
  watch?: number | true;
  json?: true;
}

const WATCH_SECONDS = 2;

export function register(program: Command): void {
  program
    .command('status')
    .description('print what a run is doing: step, remaining time, loss, validation, checkpoint')
    .argument('<run>', RUN)
    .option(
      '-w, --watch [seconds]',
      `print it anew every so many seconds until the run ends (default: ${WATCH_SECONDS})`,
      positive,
    )
    .option('--json', 'print JSON')
    .action(async (run: string, { watch, json }: StatusFlags) => {
      const runDir = runFolder(run);
      if (watch === undefined) {
        printResult(await stateOf(runDir), json, (state) => page(state, runDir));
        return;
      }
      if (json) {
        throw new OrchestratorError('ERR_USAGE', '--watch does not go with --json', 'Ask again instead');
      }
      const seconds = watch === true ? WATCH_SECONDS : watch;
      for (;;) {
        const state = await stateOf(runDir);
        // The screen is cleared from its top, as `watch` does; a pipe gets one page after the other.
        process.stdout.write(`${process.stdout.isTTY ? '\u001b[H\u001b[J' : ''}${page(state, runDir)}`);
        if (!state.live) return;
        await sleep(1000 * seconds);
      }
    });
}

async function stateOf(runDir: string) {
  const asked = await askStatus(runDir);
  if (asked === 'other version') {
    process.stderr.write(
      `warn the coordinator of ${runDir} is of another version, whose answer is not understood\n`,
    );
  }
  const view = asked === null || asked === 'other version' ? (await recordedRun(runDir)).view : asked;
  return { ...view, live: view === asked };
}

function page(state: Awaited<ReturnType<typeof stateOf>>, runDir: string): string {
  const paint = painter(wantsColour(process.stdout, process.env));
  const lines = viewLines(state, pageColumns(), paint);
  return `${[...lines, ...(state.live ? [] : [`from the files of ${runDir}`])].join('\n')}\n`;
}
