/**
 * Starts workers on other hosts with the system's ssh, which knows the user's keys, aliases and known hosts. Without a
 * terminal at the other end nothing there depends on the connection: a worker goes on without it.
 */
import { dirname } from 'node:path';
import type { ProcessEnd } from '../signals.js';
import { shellText } from '../text/shell.js';
import { type Child, startChild } from './children.js';
import type { Launcher } from './launcher.js';
import { local } from './local.js';
import { nameWithHost, type ProcessSpec } from './processes.js';

/** It asks nothing, passes nothing on, and notices within half a minute that a host is gone. */
const OPTIONS = [
  '-T',
  '-a',
  '-x',
  ...['-o', 'BatchMode=yes'],
  ...['-o', 'ConnectTimeout=15'],
  ...['-o', 'ServerAliveInterval=10'],
];
/** The exit code of ssh itself, and of a process that a signal has ended. */
const SSH_FAILED = 255;
/** Variables that every worker must have alike, or that are about the network of GPUs. */
const TRAVELS = /^(ORCHESTRATOR_(ISA|CUDA_ALGORITHMS|CUDA_ATTENTION|CUDA_GELU|CUDA_FP8_SUMS)|NCCL_\w+)$/;

/** The variables of this process's environment that workers of other hosts get. */
export function travelling(environment: NodeJS.ProcessEnv): Record<string, string> {
  const entries = Object.entries(environment) as [string, string][];
  return Object.fromEntries(entries.filter(([name]) => TRAVELS.test(name)));
}

/** The words that tell ssh the port; none: that of its own configuration. */
export function portOption(port: number | null): string[] {
  return port === null ? [] : ['-p', String(port)];
}

/** The command that runs a process's command on its host; on this machine the command itself. */
export function commandFor({ host, command, environment }: Omit<ProcessSpec, 'name'>): readonly string[] {
  const { ssh, folder } = host;
  if (ssh === null) return command;
  const { destination, port } = ssh;
  const remote = shellText(command, environment);
  // Shells that are not interactive may not know where Node.js is. csh and fish understand the line, too.
  const path = `PATH="$PATH":${shellText([dirname(process.execPath)])}`;
  const line = `cd ${shellText([folder])} && exec env ${path} ${remote}`;
  return ['ssh', ...OPTIONS, ...portOption(port), '--', destination, line];
}

function start(spec: ProcessSpec): Promise<Child> {
  if (spec.host.ssh === null) return local.start(spec);
  return startChild(nameWithHost(spec.name, spec.host), commandFor(spec), {}, ['pipe', 'pipe', 'pipe'], null);
}

function shellLine(spec: ProcessSpec): string {
  return spec.host.ssh === null ? local.shellLine(spec) : shellText(commandFor(spec));
}

function hasEnded({ host: { ssh } }: ProcessSpec, ended: ProcessEnd): boolean {
  return ssh === null || !failedItself(ended);
}

/** Whether ssh has ended so because it did not get through or lost its connection, as far as it tells. */
export function failedItself({ code }: ProcessEnd): boolean {
  return code === null || code === SSH_FAILED;
}

/** What OpenSSH prints where it does not get as far as to the other side's key. */
const UNREACHABLE =
  /^(ssh: |(kex|ssh)_exchange_identification: |Connection timed out during banner exchange)/;
/** What may follow then. Alone it also says that the server has ended the login, as that of a locked account. */
const FOLLOWS = /^Connection (closed|reset) by |^Connection to .* timed out$/;

function saysUnreachable({ host }: ProcessSpec, line: string, before: string | null): boolean {
  return host.ssh !== null && (UNREACHABLE.test(line) || (before !== null && FOLLOWS.test(line)));
}

/** What OpenSSH prints where it loses a connection that it had. Of a process that a signal has ended it prints nothing. */
const LOST =
  /^(client_loop: |packet_write_\w+: |ssh_dispatch_run_fatal: |Timeout, server |Read from remote host |Received disconnect from |Connection to \S+ closed by remote host|Connection (closed|reset) by )/;

function saysLost({ host }: ProcessSpec, line: string): boolean {
  return host.ssh !== null && LOST.test(line);
}

export const ssh = { start, shellLine, hasEnded, saysUnreachable, saysLost } satisfies Launcher;
