/** Workers of other hosts that may outlive their run: who they are, how long, and how to end them. */

import { counted, timeSpan } from '../text/quantities.js';
import { shellText } from '../text/shell.js';
import type { RunHost } from './processes.js';
import { portOption } from './ssh.js';

export interface LeftBehind {
  host: RunHost;
  /** Its process there. */
  pid: number;
}

/**
 * A line for each host.
 *
 * @param patienceSeconds How long a worker waits for a coordinator.
 * @param mayResume Whether the same command goes on with the run, and then tells them.
 */
export function describeLeftBehind(
  left: readonly LeftBehind[],
  patienceSeconds: number,
  mayResume: boolean,
): string[] {
  const hosts = new Map<RunHost, number[]>();
  for (const { host, pid } of left) hosts.set(host, [...(hosts.get(host) ?? []), pid]);
  return [...hosts].map(([{ name, ssh }, pids]) => {
    const { destination, port } = ssh!;
    const kill = shellText(['ssh', ...portOption(port), destination, 'kill', ...pids.map(String)]);
    const told = `${name} could not be told that the run has ended`;
    const who = `${counted(pids.length, 'worker')} there may run for up to ${timeSpan(patienceSeconds)} (--patience)`;
    const next = mayResume ? ', or until the same command starts the run again' : '';
    return `${told}: ${who}${next}; to end ${pids.length === 1 ? 'it' : 'them'}: ${kill}`;
  });
}
