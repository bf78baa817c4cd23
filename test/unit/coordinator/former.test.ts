/** What a coordinator that has died has left, as its records tell, whole or damaged. */
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/load.js';
import { formerOf, mayHold, orphansOf } from '../../../src/coordinator/former.js';
import { keptRecords } from '../../../src/coordinator/kept-records.js';
import { ledgerLine } from '../../../src/coordinator/ledger-file.js';
import { RunDir } from '../../../src/coordinator/run-dir.js';
import { Secrets } from '../../../src/coordinator/secrets.js';
import { processId } from '../../../src/files/processes.js';
import { socketAddress } from '../../../src/rpc/address.js';
import { localAddress, machineName } from '../../../src/rpc/local.js';
import { MINIMAL, yaml } from '../../support/config.js';
import { temporaryFolder } from '../../support/folders.js';

const lines = (...objects: object[]) => objects.map((line) => `${JSON.stringify(line)}\n`).join('');
const ledger = lines(...[1, 2, 3].map((step) => ledgerLine(step, 2, [step, 2 * step], `result ${step}`)));
const metrics = lines(
  { type: 'step', step: 1, loss: 1 },
  { type: 'step', step: 2, loss: 1 },
  { type: 'validation', step: 2, seconds: 1, val_ema: 1 },
  { type: 'step', step: 3, loss: 1 },
  { type: 'checkpoint', step: 2 },
);
const workers = (...ids: string[]) => ids.map((id) => ({ id, pid: 1, host: 'h' }));
const journal = lines(
  { generation: 1, step: 0, workers: workers('local-0', 'local-1') },
  { generation: 2, unix_seconds: 1 },
  { generation: 2, step: 2, workers: workers('local-1') },
  { generation: 3, unix_seconds: 1 },
);

function left(files: Record<string, string>, resumeStep = 0) {
  const runDir = temporaryFolder();
  for (const [name, text] of Object.entries(files)) writeFileSync(join(runDir, name), text);
  return formerOf(runDir, resumeStep, null);
}

test('the last committed step and its digest, the last validation, and the workers that started last', () => {
  const former = left({ 'ledger.jsonl': ledger, 'metrics.jsonl': metrics, 'journal.jsonl': journal });
  expect(former).toMatchObject({ members: ['local-1'], committed: 3 });
  expect(former.validated(3)).toBe(2);
  expect(former.validated(1)).toBe(0);
  expect([1, 3, 4].map(former.digestOf)).toEqual(['result 1', 'result 3', null]);
});

test.each([
  ['a last line without its end', '{"step":4,"micro":2,"rows_sha'],
  ['a last line that is no JSON', 'garbage\n'],
  ['a last line without a step', '{"micro":2}\n'],
  ['zeros at the end, after a power cut', `${'\0'.repeat(512)}`],
])('%s is left out', (_, damage) => {
  const former = left({
    'ledger.jsonl': ledger + damage,
    'metrics.jsonl': metrics + damage,
    'journal.jsonl': journal + damage,
  });
  expect(former).toMatchObject({ members: ['local-1'], committed: 3 });
  expect(former.validated(3)).toBe(2);
  expect(former.digestOf(3)).toBe('result 3');
});

test('files that are empty, or are not there, and ledgers of earlier versions', () => {
  const nothing = { members: [], committed: 0 };
  expect(left({})).toMatchObject(nothing);
  expect(left({}).validated(0)).toBe(0);
  const empty = { 'ledger.jsonl': '', 'metrics.jsonl': '', 'journal.jsonl': '' };
  expect(left(empty)).toMatchObject(nothing);
  const before = lines({ step: 1, slots: [[1, 2]] }, { step: 2, micro: 2, rows_sha256: 'r' });
  const former = left({ 'ledger.jsonl': before });
  expect(former.committed).toBe(2);
  expect([1, 2].map(former.digestOf)).toEqual([null, null]);
});

test('what is before the checkpoint does not count, and workers only where they are known to wait', () => {
  const runDir = temporaryFolder();
  const files = { 'ledger.jsonl': ledger, 'metrics.jsonl': metrics, 'journal.jsonl': journal };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(runDir, name), text);
  const former = formerOf(runDir, 8, []);
  expect(former).toMatchObject({ members: [], committed: 8 });
  expect(former.validated(8)).toBe(8);
});

test('a run that continues after a step keeps its records up to it, and nothing of a later one', async () => {
  const runDir = temporaryFolder();
  const recorded = metrics + lines({ type: 'step', step: 4, loss: 1 }, { type: 'checkpoint', step: 2 });
  const committed = ledger + lines(ledgerLine(4, 2, [4, 8], 'result 4'));
  const torn = '{"type":"st';
  writeFileSync(join(runDir, 'ledger.jsonl'), committed + torn);
  writeFileSync(join(runDir, 'metrics.jsonl'), recorded + torn);
  writeFileSync(join(runDir, 'journal.jsonl'), journal + torn);
  mkdirSync(join(runDir, 'checkpoints', 'step-00000002'), { recursive: true });
  const kept = keptRecords(runDir, 3);
  expect(kept.losses).toEqual(new Map([[2, 1]]));
  expect(kept.validations).toEqual([
    { step: 2, loss: 1 },
    { step: 2, loss: 1 },
  ]);
  const dir = await RunDir.open(runDir);
  dir.continue({ config: loadConfig(yaml(MINIMAL), []) }, kept);
  dir.release();
  const text = (name: string) => readFileSync(join(runDir, name), 'utf8');
  expect(text('ledger.jsonl')).toBe(ledger);
  expect(text('metrics.jsonl')).toBe(metrics);
  expect(text('journal.jsonl')).toBe(journal);
});

test('workers that may look for another coordinator: those that live on this machine, and those of others', async () => {
  const runDir = temporaryFolder();
  const own = { id: 'local-0', process: processId(process.pid) };
  const living = {
    id: 'local-0',
    pid: process.pid,
    host: 'h',
    machine: machineName(),
    localAddress: localAddress(),
  };
  const dead = { ...living, id: 'local-1', localAddress: localAddress() };
  const elsewhere = { ...living, id: 'b-2', machine: 'another boot' };
  // This machine has booted since.
  const before = { ...elsewhere, id: 'local-4', host: hostname() };
  const earlier = { id: 'local-3', pid: 1, host: 'h' };
  const journal = lines({ generation: 1, step: 0, workers: [living, dead, elsewhere, before, earlier] });
  writeFileSync(join(runDir, 'journal.jsonl'), journal);
  const server = createServer().listen(socketAddress(living.localAddress) as { path: string });
  await once(server, 'listening');
  expect(orphansOf(runDir, false)).toEqual([own]);
  expect(orphansOf(runDir, true)).toEqual([own, { id: 'b-2', process: null }]);
  server.close();
  await once(server, 'close');
  expect(orphansOf(runDir, false)).toEqual([]);
});

test('they may hold what is of use if the coordinator has died, or has ended without the last steps in a checkpoint', () => {
  const runDir = temporaryFolder();
  expect(mayHold(runDir)).toBe(false);
  writeFileSync(join(runDir, 'ledger.jsonl'), lines({ step: 1 }, { step: 2 }));
  expect(mayHold(runDir)).toBe(true);
  mkdirSync(join(runDir, 'checkpoints', 'step-00000001'), { recursive: true });
  expect(mayHold(runDir)).toBe(true);
  mkdirSync(join(runDir, 'checkpoints', 'step-00000002'));
  expect(mayHold(runDir)).toBe(false);
  const secrets = new Secrets(runDir);
  secrets.publish('unix-abstract:x');
  expect(mayHold(runDir)).toBe(true);
  secrets.close(true);
  expect(mayHold(runDir)).toBe(false);
});
