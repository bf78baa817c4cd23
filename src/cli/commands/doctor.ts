/** `orchestrator doctor`: what this machine or several hosts have, and how to fix what is missing. */
import type { Command } from 'commander';
import { loadConfig } from '../../config/load.js';
import type { Check } from '../../doctor/check.js';
import { examine } from '../../doctor/examine.js';
import { EXIT, OrchestratorError } from '../../errors.js';
import { type ExaminedHosts, examineHosts, renderHosts } from '../../launch/examine-hosts.js';
import { travelling } from '../../launch/ssh.js';
import { painter, wantsColour } from '../../telemetry/console.js';
import { alignedRows } from '../../text/columns.js';
import { advertisedHost, portNumber } from '../arguments.js';
import { hostsToExamine } from '../launch-hosts.js';
import { printResult } from '../output.js';

const COLOURS = { ok: 'green', note: 'dim', warning: 'yellow', failed: 'red' } as const;

interface DoctorFlags {
  hosts?: string;
  hostfile?: string;
  config?: string;
  remoteDir?: string;
  listen?: string;
  port?: number;
  json?: true;
}

export function register(program: Command): void {
  program
    .command('doctor')
    .description(
      'check this machine (instruction set, memory, CUDA, disk), or with --hosts all hosts of a run side by side, and say how to fix problems',
    )
    .option(
      '--hosts <list>',
      'hosts that ssh reaches, such as a,b,localhost, as in `launch`; this machine is one of them',
    )
    .option('--hostfile <file>', 'the same as a file with a line for each, as in `launch`')
    .option(
      '--config <file>',
      'with --hosts: also check that all have the data set and the device of this configuration',
    )
    .option(
      '--remote-dir <dir>',
      'folder of the other hosts in which the command runs (default: the same as here)',
    )
    .option(
      '--listen <host>',
      'address of this machine for the hosts (default: that of its connections to them)',
      advertisedHost,
    )
    .option(
      '--port <n>',
      'with --hosts: port of this machine; each other host takes N + 1 (default: any free ones)',
      portNumber,
    )
    .option('--json', 'print JSON')
    .action(async ({ json, ...flags }: DoctorFlags) => {
      if (flags.hosts !== undefined || flags.hostfile !== undefined) {
        const found = await ofHosts(flags);
        printResult(found, json, renderHosts);
        if (found.problems.length > 0) process.exitCode = EXIT.failed;
        return;
      }
      const alone = (['config', 'remoteDir', 'listen', 'port'] as const).find(
        (key) => flags[key] !== undefined,
      );
      if (alone !== undefined)
        throw new OrchestratorError('ERR_USAGE', `--${FLAGS[alone]} needs --hosts or --hostfile`);
      const checks = examine();
      printResult(checks, json, render);
      if (checks.some(({ status }) => status === 'failed')) process.exitCode = EXIT.failed;
    });
}

const FLAGS = { config: 'config', remoteDir: 'remote-dir', listen: 'listen', port: 'port' } as const;

async function ofHosts({ config, listen, port = 0, ...flags }: DoctorFlags): Promise<ExaminedHosts> {
  return await examineHosts(hostsToExamine(flags), config === undefined ? null : loadConfig(config), {
    listen: listen ?? null,
    port,
    environment: travelling(process.env),
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
