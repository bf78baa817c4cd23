/** What stands here for a worker elsewhere is a real process; what ssh prints and the coordinator says is not. */
import type { ChildProcess } from 'node:child_process';
import { EventEmitter } from 'node:events';
import type { Writable } from 'node:stream';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { type Child, startChild } from '../../../src/launch/children.js';
import type { Exits } from '../../../src/launch/exits.js';
import { HeldLines } from '../../../src/launch/held-lines.js';
import type { KeptCoordinator } from '../../../src/launch/kept-coordinator.js';
import { KeptWorkers } from '../../../src/launch/kept-workers.js';
import { describeLeftBehind } from '../../../src/launch/left-behind.js';
import { Members } from '../../../src/launch/members.js';
import type { LauncherNotice } from '../../../src/launch/notices.js';
import { OpenedWorkers } from '../../../src/launch/opened-workers.js';
import type { LaunchOptions, RunHost } from '../../../src/launch/processes.js';
import { ssh } from '../../../src/launch/ssh.js';

test('what says that a host is not reached is held back only as long as nothing else was said', () => {
  const told: string[] = [];
  const lines = new HeldLines((line) => told.push(line));
  lines.add('ssh: one', true);
  lines.add('Connection closed by b port 22', true);
  expect(told).toEqual([]);
  lines.add('loading', false);
  expect(told).toEqual(['ssh: one', 'Connection closed by b port 22', 'loading']);
  lines.add('ssh: of the program', true);
  expect(told.at(-1)).toBe('ssh: of the program');
});

describe('a worker on another host', () => {
  const B: RunHost = {
    name: 'b',
    ssh: { destination: 'b', port: null },
    workers: 1,
    folder: '/',
    data: null,
  };
  const processes: ChildProcess[] = [];
  /** They end launches, which start no worker any more. */
  const ends: (() => void)[] = [];
  afterEach(() => {
    vi.restoreAllMocks();
    for (const end of ends.splice(0)) end();
    for (const child of processes.splice(0)) child.kill('SIGKILL');
  });

  /** A launch of one worker, which is started so often in ten minutes. Its process ends as it is told. */
  async function launched(maxRestarts: number, early = false, before = 'true') {
    const said = new EventEmitter();
    const members = new Members();
    members.follow({ process: said } as unknown as Child);
    const told: string[] = [];
    /** The processes of workers that are known to have ended. */
    const ended: (number | null)[] = [];
    const children: ChildProcess[] = [];
    const coordinator = {
      ...{ members, goesOn: true, mayReturn: true, present: Promise.resolve('here'), orphan: () => null },
      tell: (line: string) => told.push(line),
      over: new Promise<void>((resolve) => ends.push(resolve)),
      workerStarts: (id: string) => members.starts(id),
      workerEnded: ({ again, pid, mayLive }: NonNullable<LauncherNotice['exited']>) => {
        ended.push(pid);
        told.push(`${again ? 'again' : 'not again'}${mayLive ? ', may live' : ''}`);
      },
    } as unknown as KeptCoordinator;
    const run = { hosts: [B], workerPort: 0, network: null, environment: {}, maxRestarts };
    const options = run as unknown as LaunchOptions;
    const launcher = {
      ...ssh,
      start: async () => {
        const script = `${before} || exit 255; read credential; read code line <&3; [ -z "$line" ] || echo "$line" >&2; exit $code`;
        const pipes = Array(4).fill('pipe');
        const child = await startChild('worker 0 on b', ['sh', '-c', script], {}, pipes, null);
        processes.push(child.process);
        children.push(child.process);
        return child;
      },
    };
    const exits = { of: (ended: object) => ({ ...ended, outOfMemory: false }) } as Exits;
    const opened = new OpenedWorkers(launcher, () => {});
    const workers = new KeptWorkers({ run: options, coordinator, exits, launcher, opened });
    const say = (presence: string) =>
      said.emit('message', { member: { workerId: 'b-0', presence, pid: 42 } });
    if (early) await opened.openAll(options);
    const start = () => workers.start(0);
    if (!early) await start();
    return {
      start,
      workers,
      told,
      ended,
      say,
      isStarted: (times: number) => expect.poll(() => children.length, { timeout: 10_000 }).toBe(times),
      ends: (how: string) => void (children.at(-1)!.stdio[3] as Writable).write(`${how}\n`),
    };
  }

  const CUT_OFF =
    'worker 0 on b is started again in 1 s (b was cut off, which does not count for --max-restarts)';

  test('that was left out because it was not heard, and ends therefore, has not died', async () => {
    const { told, say, isStarted, ends } = await launched(1);
    say('here');
    say('cutOff');
    ends('1');
    await expect.poll(() => told, { timeout: 10_000 }).toEqual(['again', CUT_OFF]);
    await isStarted(2);
    // This one fails by itself, before it has joined.
    ends('1');
    const counted = 'worker 0 on b is started again in 1 s (start 1 of 1 in 10 minutes)';
    await expect.poll(() => told.slice(2), { timeout: 10_000 }).toEqual(['again', counted]);
  });

  test('comes back by itself where only its connections were reset', async () => {
    const { told, say, ends } = await launched(1);
    say('here');
    say('lost');
    ends('255 client_loop: send disconnect: Broken pipe');
    await expect.poll(() => told.at(-1)).toContain('client_loop');
    say('here');
    const goesOn = 'the connection to worker 0 on b is lost; the worker goes on without it';
    await expect.poll(() => told.at(-1), { timeout: 10_000 }).toBe(goesOn);
  });

  test('whose connections are lost has not died, and is not started again when it has come back before', async () => {
    const { told, say, ends } = await launched(1);
    say('here');
    say('cutOff');
    ends('255 Timeout, server b not responding.');
    await expect.poll(() => told.at(-1), { timeout: 10_000 }).toBe(CUT_OFF);
    expect(told.at(-2)).toBe('again, may live');
    say('here');
    await expect.poll(() => told.at(-1), { timeout: 10_000 }).toBe('worker 0 on b lives, and goes on');
  });

  test('that hangs has died, and so has one of which ssh says nothing', async () => {
    const counted = 'worker 0 on b is started again in 1 s (start 1 of 1 in 10 minutes)';
    for (const [presence, how] of [
      ['cutOff', '70'],
      ['lost', '255'],
    ] as const) {
      const { told, say, ends } = await launched(1);
      say('here');
      say(presence);
      ends(how);
      await expect.poll(() => told.at(-1), { timeout: 10_000 }).toBe(counted);
    }
  });

  test('of which ssh says nothing was ended by a signal, and its connection was not lost', async () => {
    for (const [how, pid, count] of [
      ['255', 42, 1],
      ['255 client_loop: send disconnect: Broken pipe', null, 0],
      ['1', null, 0],
    ] as const) {
      const { told, ended, say, ends } = await launched(1);
      say('here');
      say('lost');
      ends(how);
      await expect.poll(() => told.at(-1), { timeout: 10_000 }).toContain('is started again in 1 s');
      expect(
        told.filter((line) => line.startsWith('[worker 0 on b] a signal has ended it there')),
      ).toHaveLength(count);
      expect(ended).toEqual([pid]);
    }
  });

  test('that has died too often is tried again when ten minutes are over', async () => {
    let now = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => now);
    const { told, isStarted, ends } = await launched(1);
    ends('1');
    await isStarted(2);
    now = 599_900;
    ends('1');
    const rests = 'worker 0 on b is not started again for 1 s: --max-restarts allows 1 in 10 minutes';
    await expect.poll(() => told.slice(2), { timeout: 10_000 }).toEqual(['not again', rests]);
    now = 600_000;
    await isStarted(3);
    ends('1');
    await expect.poll(() => told.at(-1)).toContain('is not started again for 10 min');
  });

  test('may outlive the run where it could not be told of the end, and nobody waits for it', async () => {
    const { workers, say } = await launched(1);
    expect(workers.leftBehind()).toEqual([]);
    say('here');
    say('cutOff');
    expect(workers.leftBehind()).toEqual([{ host: B, pid: 42 }]);
    workers.endUntold();
    await expect.poll(() => processes.at(-1)!.signalCode).toBe('SIGKILL');
  });

  test('has ended with the run where it was told, or has ended before', async () => {
    const [told, died] = [await launched(1), await launched(0)];
    told.say('here');
    told.say('released');
    told.workers.endUntold();
    expect(told.workers.leftBehind()).toEqual([]);
    died.say('here');
    died.say('lost');
    died.ends('1');
    await expect.poll(() => died.workers.leftBehind()).toEqual([]);
    told.ends('0');
    await expect.poll(() => processes[0]!.exitCode).toBe(0);
  });

  test('is named by host and process where it may outlive the run, with how to end it', () => {
    const other = { ...B, name: 'root@c:2222', ssh: { destination: 'root@c', port: 2222 } };
    const left = [
      { host: B, pid: 1 },
      { host: other, pid: 2 },
      { host: B, pid: 3 },
    ];
    expect(describeLeftBehind(left, 600, true)).toEqual([
      'b could not be told that the run has ended: 2 workers there may run for up to 10 min (--patience), or until the same command starts the run again; to end them: ssh b kill 1 3',
      'root@c:2222 could not be told that the run has ended: 1 worker there may run for up to 10 min (--patience), or until the same command starts the run again; to end it: ssh -p 2222 root@c kill 2',
    ]);
    expect(describeLeftBehind(left.slice(0, 1), 60, false)).toEqual([
      'b could not be told that the run has ended: 1 worker there may run for up to 1 min (--patience); to end it: ssh b kill 1',
    ]);
  });

  test('is started before there is a coordinator, and waits for its credential', async () => {
    const { told, start, isStarted, ends } = await launched(1, true);
    await isStarted(1);
    await start();
    await isStarted(1);
    expect(processes[0]!.stdin!.writableEnded).toBe(true);
    ends('1');
    await expect.poll(() => told.at(-1)).toContain('(start 1 of 1 in 10 minutes)');
  });

  test('is ended where it waits for a credential that does not come', async () => {
    const { workers } = await launched(1, true);
    workers.endUntold();
    await expect.poll(() => processes[0]!.signalCode).toBe('SIGKILL');
  });

  test('that has ended before it got its credential is started again like any other', async () => {
    const { told, start, isStarted } = await launched(1, true);
    processes[0]!.kill('SIGKILL');
    await expect.poll(() => processes[0]!.signalCode).toBe('SIGKILL');
    await start();
    await expect.poll(() => told.at(-1)).toContain('worker 0 on b is started again in 1 s');
    await isStarted(2);
  });

  test('that has ended before it got its credential has told why', async () => {
    const unreachable = 'ssh: connect to host b port 22: No route to host';
    const { told, start, isStarted } = await launched(1, true, `! echo '${unreachable}' >&2`);
    await expect.poll(() => processes[0]!.exitCode).toBe(255);
    await new Promise((resolve) => setTimeout(resolve, 10));
    await start();
    await isStarted(2);
    expect(told).toEqual([
      expect.stringContaining(`b cannot be reached to start worker 0: ${unreachable}; it is tried again`),
    ]);
  });

  test('is named where the run has begun without it', async () => {
    const { workers, say } = await launched(1);
    expect(workers.missing()).toBe(
      'the run has begun without 1 of its 1 worker: worker 0 on b; whoever is missing takes part when it comes, and what it has printed is above',
    );
    say('here');
    expect(workers.missing()).toBeNull();
  });

  test('is never started again where no start is allowed', async () => {
    const { told, say, ends } = await launched(0);
    say('here');
    say('cutOff');
    ends('1');
    const never = 'worker 0 on b is not started again: --max-restarts allows 0 in 10 minutes';
    await expect.poll(() => told, { timeout: 10_000 }).toEqual(['not again', never]);
  });
});
