/** `orchestrator doctor`: what this machine has, and how to fix what is missing. */
import type { Command } from 'commander';
import type { Check } from '../../doctor/check.js';
import { examine } from '../../doctor/examine.js';
import { EXIT } from '../../errors.js';
import { painter, wantsColour } from '../../telemetry/console.js';
import { alignedRows } from '../../text/columns.js';
import { printResult } from '../output.js';

const COLOURS = { ok: 'green', warning: 'yellow', failed: 'red' } as const;

export function register(program: Command): void {
  program
    .command('doctor')
    .description('check this machine (instruction set, memory, CUDA, disk), and say how to fix problems')
    .option('--json', 'print JSON')
    .action(({ json }: { json?: true }) => {
      const checks = examine();
      printResult(checks, json, render);
      if (checks.some(({ status }) => status === 'failed')) process.exitCode = EXIT.failed;
    });
}

function render(checks: readonly Check[]): string {
  const paint = painter(wantsColour(process.stdout, process.env));
  const rows = checks.flatMap(({ name, status, detail, fix }) => [
    [status, name, detail],
    ...(fix === null ? [] : [['', '', `-> ${fix}`]]),
  ]);
  const lines = alignedRows(rows, 'left').map((line, i) => {
    const status = rows[i]![0] as Check['status'] | '';
    return status === '' ? line : line.replace(status, paint(COLOURS[status], status));
  });
  const failures = checks.filter(({ status }) => status === 'failed').length;
  const problems = failures === 1 ? '1 problem' : `${failures} problems`;
  return `${[...lines, failures === 0 ? 'ready to train' : `not ready: ${problems}`].join('\n')}\n`;
}
