/** `orchestrator rows`: which rows of the data set a step trained on. */
import { type Command, InvalidArgumentError } from 'commander';
import { recordedRows, type StepRows } from '../../run-folder/ledger-file.js';
import { alignedRows } from '../../text/columns.js';
import { rowNumbers } from '../arguments.js';
import { printResult } from '../output.js';
import { RUN, runFolder } from '../run-folder.js';

export function register(program: Command): void {
  program
    .command('rows')
    .description('print the rows of the data set that steps trained on, by slot')
    .argument('<run>', RUN)
    .argument('<steps>', 'a step, or a range such as 1200-1203', stepRange)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nThe rows follow from the sample plan. They are compared with what ledger.jsonl recorded of each step.',
    )
    .action(async (run: string, [first, last]: [number, number], { json }: { json?: true }) => {
      printResult(await recordedRows(runFolder(run), first, last), json, render);
    });
}

/** [first, last] of "7" or "7-9". */
function stepRange(text: string): [number, number] {
  const steps = /^\d+(-\d+)?$/.test(text) ? rowNumbers(text) : [0];
  if (steps[0]! >= 1) return [steps[0]!, steps.at(-1)!];
  throw new InvalidArgumentError('Expected a step from 1, or a range such as 1200-1203.');
}

function render(steps: readonly StepRows[]): string {
  const rows = steps.flatMap(({ step, slots }) =>
    slots.map((slot, i) => [`step ${step}`, `slot ${i}`, slot.join(' ')]),
  );
  const missing = steps.filter(({ recorded }) => !recorded).map(({ step }) => step);
  const note =
    missing.length === 0
      ? []
      : [`(by the sample plan alone, because ledger.jsonl lacks them: steps ${missing.join(', ')})`];
  return `${[...alignedRows(rows, 'left'), ...note].join('\n')}\n`;
}
