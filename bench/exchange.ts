/** The gradient exchange alone, over loopback, with 2 and 4 workers. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { WORKER_OPTIONS } from '../src/launch/processes.js';
import { median, milliseconds, print, table } from './report.js';

const SCRIPT = fileURLToPath(new URL('./exchange-process.js', import.meta.url));
const MEGABYTES = 64;
const ROUNDS = 12;

/** What the process of a worker gets. */
export interface ExchangeOrders {
  rank: number;
  addresses: string[];
  bytes: number;
  rounds: number;
}

/** What it measures: seconds of each exchange, and of the processor for one. */
export interface ExchangeTimes {
  seconds: number[];
  processor: number;
}

/**
 * Prints the bus bandwidth as collectives are compared, bytes * 2 (P - 1) / P / time, and the processor time
 * that it costs. Every worker is a process; the data plane is the one of a run (src/worker/collective).
 */
export async function benchExchange(): Promise<void> {
  print('\n## The gradient exchange alone, over loopback\n');
  const rows: string[][] = [];
  for (const workers of [2, 4]) {
    const bytes = MEGABYTES * 1e6;
    const all = await exchange(workers, bytes);
    const seconds = median(all.flatMap((times) => times.seconds));
    const processor = median(all.map((times) => times.processor));
    const bus = (bytes * 2 * (workers - 1)) / workers / 1e6;
    rows.push([
      `${workers} workers, ${MEGABYTES} MB`,
      milliseconds(seconds),
      `${(bus / seconds).toFixed(0)} MB/s`,
      milliseconds(processor),
      milliseconds(processor / bus),
    ]);
  }
  print(table(['', 'time', 'bus bandwidth', 'processor, a worker', 'processor, per MB on the bus'], rows));
}

async function exchange(workers: number, bytes: number): Promise<ExchangeTimes[]> {
  const children = Array.from({ length: workers }, () => fork(SCRIPT, { execArgv: WORKER_OPTIONS }));
  try {
    const addresses = (await messages(children)) as string[];
    for (const [rank, child] of children.entries()) {
      child.send({ rank, addresses, bytes, rounds: ROUNDS } satisfies ExchangeOrders);
    }
    return (await messages(children)) as ExchangeTimes[];
  } finally {
    for (const child of children) child.kill();
  }
}

/** The next message of each process. */
function messages(children: readonly ChildProcess[]): Promise<unknown[]> {
  const next = (child: ChildProcess) =>
    new Promise((resolve, reject) => {
      child.once('message', resolve);
      child.once('exit', () => reject(new Error('a worker ended early')));
    });
  return Promise.all(children.map(next));
}
