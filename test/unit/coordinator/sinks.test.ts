import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { loadConfig } from '../../../src/config/load.js';
import { openRecorder } from '../../../src/coordinator/sinks.js';
import { waitForLock } from '../../../src/native/lock.js';
import { RunDir } from '../../../src/run-folder/run-dir.js';
import { MINIMAL, yaml } from '../../support/config.js';
import { temporaryFolder } from '../../support/folders.js';

let dir: RunDir;
let targets: string;
let printed: string;

beforeEach(async () => {
  const folder = temporaryFolder();
  dir = await RunDir.open(join(folder, 'run'));
  targets = join(folder, 'targets', 'run.json');
  printed = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed += String(text);
    return true;
  });
});
afterEach(() => {
  dir.release();
  vi.restoreAllMocks();
});

const open = async (port: number | null) => {
  const config = loadConfig(yaml(MINIMAL), [`telemetry.metrics_port=${port}`]);
  const { recorder } = await openRecorder(
    { config, step: 3, own: false, checkpoint: null },
    ...([2, dir, targets, null, 0] as const),
  );
  return recorder;
};
const served = () => /metrics at (http:\/\/127\.0\.0\.1:(\d+))\/metrics(.*)/.exec(printed)!;

test.each([
  ['goes when the run is done', 'DONE', false],
  ['goes when it was stopped', 'STOPPED', false],
  ['stays when it failed, so that it is reported as down', 'FAILED', true],
])("the file for Prometheus' discovery %s", async (_, phase, stays) => {
  const recorder = await open(0);
  recorder.phase('RUNNING');
  const [, address, port] = served();
  expect(JSON.parse(readFileSync(targets, 'utf8'))).toEqual([
    {
      targets: [`127.0.0.1:${port}`],
      labels: {
        run: expect.stringMatching(/^x@\d{8}-\d{6}\.\d{3}$/),
        // A parameter of Prometheus' requests.
        __param_run: expect.stringMatching(/^x@\d{8}-\d{6}\.\d{3}$/),
      },
    },
  ]);
  expect(await (await fetch(`${address}/metrics`)).text()).toMatch(/^orchestrator_resumed_step\{.*\} 3$/m);
  recorder.phase(phase);
  await recorder.close();
  expect(existsSync(targets)).toBe(stays);
});

test('a run tells that it serves at another port than wanted', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const recorder = await open(port);
  await recorder.close();
  server.close();
  expect(Number(served()[2])).toBeGreaterThan(port);
  expect(served()[3]).toBe(` (telemetry.metrics_port ${port} is in use)`);
});

test('without a port, the file is not written, and a warning says why', async () => {
  const recorder = await open(null);
  await recorder.close();
  expect(printed).toContain(` warn ${targets} is not written, because telemetry.metrics_port is null\n`);
  expect(existsSync(targets)).toBe(false);
});

test('where another process keeps the file locked, the run begins without, and says so', async () => {
  mkdirSync(dirname(targets));
  const unlock = await waitForLock(`${targets}.lock`);
  let now = 0;
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => (now += 6_000));
  const recorder = await open(0);
  clock.mockRestore();
  unlock();
  await recorder.close();
  expect(printed).toContain(
    ` warn Prometheus does not learn of this run: ${targets}.lock is held by another`,
  );
  expect(existsSync(targets)).toBe(false);
});

test('where the file cannot be written, nothing is served any longer', async () => {
  writeFileSync(join(targets, '..'), 'a file in place of the folder');
  const closed = vi.spyOn((await import('node:http')).Server.prototype, 'close');
  await expect(open(0)).rejects.toMatchObject({
    code: 'ERR_FILE_WRITE',
    message: expect.stringContaining(targets),
  });
  expect(closed).toHaveBeenCalledOnce();
});
