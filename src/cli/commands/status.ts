/** `orchestrator status`: what a run is doing. */
import type { Command } from 'commander';
import { recordedRun } from '../../coordinator/recorded-run.js';
import { askStatus } from '../../coordinator/status-socket.js';
import { painter, wantsColour } from '../../telemetry/console.js';
import { viewLines } from '../../telemetry/view-lines.js';
import { allPrintable } from '../../text/printable.js';
import { printResult } from '../output.js';
import { RUN, runFolder } from '../run-folder.js';

/** Columns of a page that goes into a file or a pipe. */
const PAGE_COLUMNS = 120;

export function register(program: Command): void {
  program
    .command('status')
    .description('print what a run is doing: step, remaining time, loss, validation, checkpoint')
    .argument('<run>', RUN)
    .option('--json', 'print JSON')
    .action(async (run: string, { json }: { json?: true }) => {
      const runDir = runFolder(run);
      const asked = await askStatus(runDir);
      const { view } = asked === null ? await recordedRun(runDir) : { view: asked };
      // Whoever may write in the folder may have put anything there.
      printResult(allPrintable({ ...view, live: asked !== null }), json, (status) => {
        const { stdout } = process;
        const paint = painter(wantsColour(stdout, process.env));
        const lines = viewLines(status, stdout.columns || PAGE_COLUMNS, paint);
        return `${[...lines, ...(status.live ? [] : [`from the files of ${runDir}`])].join('\n')}\n`;
      });
    });
}
