import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { waitForLock } from '../../../src/native/lock.js';
import { prometheusTargets } from '../../../src/telemetry/prometheus-targets.js';
import { temporaryFolder } from '../../support/folders.js';

let path: string;
beforeEach(() => {
  path = join(temporaryFolder(), 'targets', 'all.json');
});
afterEach(() => vi.restoreAllMocks());

const addresses = () =>
  (JSON.parse(readFileSync(path, 'utf8')) as { targets: string[] }[])
    .flatMap(({ targets }) => targets)
    .sort();
const start = (run: string, port: number) => prometheusTargets(path, `http://127.0.0.1:${port}`, run);

test('runs share a file; each takes its own entry with it, and the last one the file', async () => {
  const ports = Array.from({ length: 12 }, (_, i) => 9464 + i);
  const sinks = await Promise.all(ports.map((port) => start(`run@${port}`, port)));
  expect(addresses()).toEqual(ports.map((port) => `127.0.0.1:${port}`).sort());
  const last = sinks.pop()!;
  await Promise.all(sinks.map((sink) => sink.close?.()));
  expect(addresses()).toEqual(['127.0.0.1:9475']);
  await last.close?.();
  expect(existsSync(path)).toBe(false);
  expect(readdirSync(dirname(path))).toEqual([]);
});

test('the entry of a run that failed stays until it is resumed, though another run has its address', async () => {
  for (const [run, port] of [
    ['a', 9464],
    ['b', 9465],
  ] as const) {
    const failed = await start(run, port);
    failed.phase?.('FAILED');
    await failed.close?.();
  }
  expect(addresses()).toEqual(['127.0.0.1:9464', '127.0.0.1:9465']);
  const resumed = await start('a', 9466);
  expect(addresses()).toEqual(['127.0.0.1:9465', '127.0.0.1:9466']);
  const other = await start('c', 9465);
  expect(addresses()).toEqual(['127.0.0.1:9465', '127.0.0.1:9465', '127.0.0.1:9466']);
  await resumed.close?.();
  await other.close?.();
  expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual([
    { targets: ['127.0.0.1:9465'], labels: { run: 'b', __param_run: 'b' } },
  ]);
});

test("the user's own targets stay as they are", async () => {
  mkdirSync(dirname(path));
  const own = [{ targets: ['127.0.0.1:9464'], labels: { job: 'node' } }];
  writeFileSync(path, JSON.stringify(own));
  const run = await start('a', 9464);
  expect(addresses()).toEqual(['127.0.0.1:9464', '127.0.0.1:9464']);
  await run.close?.();
  expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual(own);
});

test.each(['scrape_configs: []\n', '{"targets": []}', '[1]', '[{'])(
  'a file with something else is refused, and left as it is: %j',
  async (content) => {
    mkdirSync(dirname(path));
    writeFileSync(path, content);
    await expect(start('a', 9464)).rejects.toMatchObject({
      code: 'ERR_FILE_WRITE',
      message: `${path} holds something else than targets of Prometheus`,
    });
    expect(readFileSync(path, 'utf8')).toBe(content);
    expect(readdirSync(dirname(path))).toEqual(['all.json']);
  },
);

test('an empty file, and one that was removed during the run, are as none', async () => {
  mkdirSync(dirname(path));
  writeFileSync(path, '');
  const run = await start('a', 9464);
  expect(addresses()).toEqual(['127.0.0.1:9464']);
  rmSync(dirname(path), { recursive: true });
  await run.close?.();
  expect(existsSync(path)).toBe(false);
});

test('where the entry cannot be removed, the run has ended well all the same, and says what to do', async () => {
  const run = await start('a', 9464);
  const told = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  writeFileSync(path, 'something else');
  await run.close?.();
  expect(told.mock.calls.join('')).toMatch(
    /^warn .*all\.json holds something else .*; remove the run from .*all\.json, or/,
  );
});

test('what a process that was killed has left of the lock is in the way of nobody', async () => {
  mkdirSync(dirname(path));
  writeFileSync(`${path}.lock`, '');
  const runs = await Promise.all([start('a', 9464), start('b', 9465)]);
  expect(addresses()).toEqual(['127.0.0.1:9464', '127.0.0.1:9465']);
  await Promise.all(runs.map((run) => run.close?.()));
  expect(readdirSync(dirname(path))).toEqual([]);
});

test('the lock of another run is respected, and not waited for without end', async () => {
  mkdirSync(dirname(path));
  const run = await start('b', 9465);
  const unlock = await waitForLock(`${path}.lock`);
  let [now, step] = [0, 0];
  vi.spyOn(performance, 'now').mockImplementation(() => (now += step));
  const started = start('a', 9464);
  now += 9_000;
  await sleep(30);
  expect(addresses()).toEqual(['127.0.0.1:9465']);
  unlock();
  await started;
  expect(addresses()).toEqual(['127.0.0.1:9464', '127.0.0.1:9465']);
  await waitForLock(`${path}.lock`);
  const told = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const late = [start('c', 9466).catch((error: unknown) => error), run.close?.()];
  step = 4_000;
  expect(await late[0]).toMatchObject({
    code: 'ERR_RUN_LOCKED',
    message: `${path}.lock is held by another process for more than 10 s`,
  });
  await late[1];
  expect(told.mock.calls.join('')).toMatch(/^warn .*all\.json\.lock is held .*; remove the run from /);
});
