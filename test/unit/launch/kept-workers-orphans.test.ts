/** Workers of a launch that is gone are followed by their processes, which are real; the coordinator's word is not. */
import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { afterEach, describe, expect, test } from 'vitest';
import { isAlive, processId } from '../../../src/files/processes.js';
import { Adopted } from '../../../src/launch/adopted.js';
import type { Child } from '../../../src/launch/children.js';
import type { Exits } from '../../../src/launch/exits.js';
import type { KeptCoordinator } from '../../../src/launch/kept-coordinator.js';
import { KeptWorkers } from '../../../src/launch/kept-workers.js';
import { Members } from '../../../src/launch/members.js';
import { OpenedWorkers } from '../../../src/launch/opened-workers.js';
import { type LaunchOptions, thisMachine } from '../../../src/launch/processes.js';
import { isSuspended } from '../../support/launched.js';

const processes: ChildProcess[] = [];
/** They end launches, which start no worker any more. */
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
  for (const child of processes.splice(0)) child.kill('SIGKILL');
});

type Launched = Awaited<ReturnType<typeof following>>;

async function sleeper(): Promise<ChildProcess> {
  const child = spawn('sleep', ['1000'], { detached: true });
  processes.push(child);
  await once(child, 'spawn');
  return child;
}

/** A launch of one worker, and one of the launch before it that lives: as `here`, a process that is known. */
async function following({ id = 'local-0', here = true } = {}) {
  const orphan = await sleeper();
  const said = new EventEmitter();
  const members = new Members();
  members.follow({ process: said } as unknown as Child);
  const [told, started]: [string[], number[]] = [[], []];
  const run = { hosts: [thisMachine(1)], device: 'cpu', network: null, environment: {}, maxRestarts: 3 };
  const orphans = [{ id, process: here ? processId(orphan.pid!) : null }];
  const coordinator = {
    ...{ members, orphans, goesOn: true, mayReturn: true, present: Promise.resolve('here') },
    orphan: (name: string) => orphans.find((one) => one.id === name) ?? null,
    tell: (line: string) => told.push(line),
    over: new Promise<void>((resolve) => ends.push(resolve)),
    workerEnded: ({ pid, again }: { pid: number | null; again: boolean }) =>
      told.push(`ended ${pid} ${again}`),
    workerStarts: () => {},
    forget: (name: string) => told.push(`forget ${name}`),
  } as unknown as KeptCoordinator;
  const launcher = {
    hasEnded: () => true,
    start: async () => {
      const process = await sleeper();
      started.push(process.pid!);
      return { name: 'worker 0', pid: process.pid!, process, exited: new Promise(() => {}) };
    },
  } as never;
  const opened = new OpenedWorkers(launcher, () => {});
  const exits = { of: (ended: object) => ({ ...ended, outOfMemory: false }) } as Exits;
  const options = run as unknown as LaunchOptions;
  const workers = new KeptWorkers({ run: options, coordinator, exits, launcher, opened });
  await workers.start(0);
  workers.forgetOthers();
  const say = (presence: string) => said.emit('message', { member: { workerId: id, presence } });
  return { orphan, pid: orphan.pid!, told, started, say };
}

test('one that is lost is no reason to start another as long as its process lives', async () => {
  const { orphan, pid, told, started, say } = await following();
  say('here');
  await expect.poll(() => told).toEqual([`worker 0 of the launch before (pid ${pid}) lives, and goes on`]);
  say('lost');
  say('here');
  say('lost');
  expect(started).toEqual([]);
  orphan.kill('SIGKILL');
  await expect
    .poll(() => told.slice(1), { timeout: 10_000 })
    .toEqual([`ended ${pid} true`, 'worker 0 is started again in 1 s (start 1 of 3 in 10 minutes)']);
  await expect.poll(() => started, { timeout: 10_000 }).toHaveLength(1);
});

test('the coordinator is told of the end of one that takes no part, and another is started at once', async () => {
  const { orphan, pid, told, started } = await following();
  orphan.kill('SIGKILL');
  await expect.poll(() => started, { timeout: 10_000 }).toHaveLength(1);
  expect(told).toEqual([
    `worker 0 of the launch before (pid ${pid}) has ended: it was killed, or belongs to a run with other settings`,
    `ended ${pid} true`,
  ]);
});

test('and of the end of one that is none of this launch', async () => {
  const { orphan, told, started } = await following({ id: 'local-7' });
  expect(started).toHaveLength(1);
  expect(told).toEqual([]);
  orphan.kill('SIGKILL');
  await expect.poll(() => told, { timeout: 10_000 }).toEqual(['forget local-7']);
});

describe('on another host', () => {
  const LIVES = 'worker 0 of the launch before lives, and goes on';

  test('one that comes back is followed by what the coordinator says, and one that leaves in order is not missed', async () => {
    const { told, started, say } = await following({ here: false });
    say('here');
    await expect.poll(() => told).toEqual([LIVES]);
    say('lost');
    say('here');
    say('released');
    await expect.poll(() => told).toEqual([LIVES, 'ended null false']);
    expect(started).toEqual([]);
  });

  test('one that is none of this launch is forgotten where it does not come', async () => {
    const all = [
      { id: 'b-7', here: false },
      { id: 'b-8', here: false },
    ].map(following);
    const [absent, back] = (await Promise.all(all)) as [Launched, Launched];
    back.say('here');
    await expect.poll(() => absent.told, { timeout: 10_000 }).toEqual(['forget b-7']);
    expect(back.told).toEqual([]);
  });

  test('another is started for one that does not come, and for one that is lost and does not come again', async () => {
    const [absent, lost] = [await following({ here: false }), await following({ here: false })];
    lost.say('here');
    await expect.poll(() => lost.told).toEqual([LIVES]);
    lost.say('lost');
    expect([...absent.started, ...lost.started]).toEqual([]);
    await expect.poll(() => absent.started, { timeout: 10_000 }).toHaveLength(1);
    expect(absent.told).toEqual([]);
    await expect.poll(() => lost.started, { timeout: 10_000 }).toHaveLength(1);
    const again = 'worker 0 is started again in 1 s (start 1 of 3 in 10 minutes)';
    expect(lost.told).toEqual([LIVES, 'ended null true', again]);
  });
});

test('the end of those that are adopted is waited for, until the wait is given up', async () => {
  const [orphan, adopted, late] = [await sleeper(), new Adopted(), new AbortController()];
  adopted.add(processId(orphan.pid!));
  orphan.kill('SIGSTOP');
  await expect.poll(() => isSuspended(orphan.pid!)).toBe(true);
  adopted.stop();
  const ended = adopted.ended(late.signal);
  late.abort();
  await ended;
  expect(isAlive(processId(orphan.pid!))).toBe(true);
  adopted.signal('SIGKILL');
  await adopted.ended(new AbortController().signal);
  await expect.poll(() => orphan.signalCode).not.toBeNull();
});
