import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { askStatus, serveStatus } from '../../../src/coordinator/status-socket.js';
import type { Sink } from '../../../src/telemetry/record.js';
import { RunProgress } from '../../../src/telemetry/run-progress.js';
import { temporaryFolder } from '../../support/folders.js';
import { header, record } from '../../support/records.js';

test('answers in a folder of any length, to its user alone, and leaves nothing behind', async () => {
  // The path of a socket may have 107 bytes.
  const runDir = join(temporaryFolder(), 'a'.repeat(100), 'b'.repeat(100));
  mkdirSync(runDir, { recursive: true });
  const progress = new RunProgress(header);
  expect(await askStatus(runDir)).toBeNull();
  // What a killed run leaves: a socket on which nobody listens.
  writeFileSync(join(runDir, 'status.sock'), '');
  const mask = process.umask(0o000);
  const served = (await serveStatus(progress, runDir)) as Sink;
  process.umask(mask);
  expect(statSync(join(runDir, 'status.sock')).mode & 0o777).toBe(0o600);
  expect(process.umask()).toBe(mask);
  progress.phase('RUNNING');
  progress.step(record);
  expect(await askStatus(runDir)).toMatchObject({
    phase: 'RUNNING',
    step: 120,
    loss: record.loss,
    max_abs_logit: 9.31,
  });
  await served.close?.();
  expect(readdirSync(runDir)).toEqual([]);
  expect(await askStatus(runDir)).toBeNull();
});

test('every state is understood, and an answer of another version is known as one', async () => {
  const runDir = temporaryFolder();
  const progress = new RunProgress(header);
  const served = (await serveStatus(progress, runDir)) as Sink;
  progress.phase('RUNNING');
  progress.start({ firstStep: 1, validations: [{ step: 50, loss: Number.NaN }], recordedSeconds: 0 });
  progress.step({ ...record, loss: Number.NaN });
  progress.validating({ done: 1, total: 4 });
  progress.checkpoint({ step: 100, path: 'x' });
  const states = ['training', 'building', 'standby', 'leaving', 'missing', 'lost', 'ended'] as const;
  progress.listWorkers = () =>
    states.map((state) => ({ rank: null, id: state, host: 'h', pid: null, state, device: '' }));
  expect(await askStatus(runDir)).toMatchObject({ step: 120, validating_slots: { done: 1, total: 4 } });
  await served.close?.();
  for (const answer of ['{"step":12,"state":"RUNNING"}', '[]', 'null']) {
    const other = createServer((socket) => socket.end(`${answer}\n`));
    await new Promise<void>((resolve) => other.listen(join(runDir, 'status.sock'), resolve));
    expect(await askStatus(runDir)).toBe('other version');
    await new Promise((resolve) => other.close(resolve));
  }
});

test('has every worker of the largest run', async () => {
  const runDir = temporaryFolder();
  const progress = new RunProgress(header);
  const host = 'h'.repeat(256);
  const members = Array.from({ length: 4_096 }, (_, rank) => {
    const device = 'NVIDIA H100 80GB HBM3, GPU 0 of 8';
    return { rank, id: `${host}-${rank}`, host, pid: 4_000_000, state: 'training' as const, device };
  });
  progress.listWorkers = () => members;
  const served = (await serveStatus(progress, runDir)) as Sink;
  expect(await askStatus(runDir)).toMatchObject({ members });
  progress.phase('DONE');
  expect(await askStatus(runDir)).toMatchObject({ members: [] });
  await served.close?.();
});

test('a folder that cannot be opened is an error with its path', async () => {
  await expect(askStatus(join(temporaryFolder(), 'none'))).rejects.toMatchObject({
    code: 'ERR_FILE_OPEN',
    message: expect.stringContaining('none'),
  });
});

test('where its name is taken, the run goes on without it', async () => {
  const runDir = temporaryFolder();
  mkdirSync(join(runDir, 'status.sock'));
  expect(await serveStatus(new RunProgress(header), runDir)).toMatch(
    /^no socket for `orchestrator status` in /,
  );
});

test('clients that do not read, write or end do not keep it from answering', async () => {
  const runDir = temporaryFolder();
  const served = (await serveStatus(new RunProgress(header), runDir)) as Sink;
  const idle = Array.from({ length: 8 }, () => connect(join(runDir, 'status.sock')).on('error', () => {}));
  for (const socket of idle) socket.pause().write('x'.repeat(100_000));
  expect(await askStatus(runDir)).toMatchObject({ phase: 'INIT' });
  for (const socket of idle) socket.destroy();
  await served.close?.();
  expect(existsSync(join(runDir, 'status.sock'))).toBe(false);
});

test('a coordinator that does not answer is as good as none', { timeout: 20_000 }, async () => {
  const runDir = temporaryFolder();
  const silent = createServer(() => {});
  await new Promise<void>((resolve) => silent.listen(join(runDir, 'status.sock'), resolve));
  expect(await askStatus(runDir)).toBeNull();
  silent.close();
});

test('an answer without an end is none', async () => {
  const runDir = temporaryFolder();
  const endless = createServer((socket) => {
    socket.on('error', () => {});
    const more = () => socket.write('x'.repeat(1 << 20), () => socket.writable && setImmediate(more));
    more();
  });
  await new Promise<void>((resolve) => endless.listen(join(runDir, 'status.sock'), resolve));
  expect(await askStatus(runDir)).toBeNull();
  endless.close();
});
