/** `orchestrator doctor`: what this machine has, and how to fix what is missing. */
import { styleText } from 'node:util';
import type { Command } from 'commander';
import type { Check } from '../../doctor/check.js';
import { examine } from '../../doctor/examine.js';
import { EXIT } from '../../errors.js';

const COLOURS = { ok: 'green', warning: 'yellow', failed: 'red' } as const;

export function register(program: Command): void {
  program
    .command('doctor')
    .description('check this machine (instruction set, memory, CUDA, disk), and say how to fix problems')
    .option('--json', 'print JSON')
    .action((options: { json?: true }) => {
      const checks = examine();
      process.stdout.write(options.json ? `${JSON.stringify(checks, null, 2)}\n` : render(checks));
      if (checks.some(({ status }) => status === 'failed')) process.exitCode = EXIT.failed;
    });
}

function render(checks: readonly Check[]): string {
  const coloured = process.stdout.isTTY && process.env.NO_COLOR === undefined;
  const width = Math.max(...checks.map(({ name }) => name.length));
  const lines = checks.flatMap(({ name, status, detail, fix }) => {
    const mark = status.padEnd('warning'.length);
    const line = `${coloured ? styleText(COLOURS[status], mark) : mark}  ${name.padEnd(width)}  ${detail}`;
    return fix === null ? [line] : [line, `${' '.repeat(width + 11)}-> ${fix}`];
  });
  const failures = checks.filter(({ status }) => status === 'failed').length;
  lines.push(
    failures === 0 ? 'ready to train' : `not ready: ${failures} ${failures === 1 ? 'problem' : 'problems'}`,
  );
  return `${lines.join('\n')}\n`;
}
