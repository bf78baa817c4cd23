/** Every command that reads has --json, and all of it is in one dialect: snake_case, the configuration's names. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { metricsLine } from '../../src/telemetry/metrics-schema.js';
import { temporaryFolder } from '../support/folders.js';
import { rows } from '../support/full.js';
import { TRAINING } from '../support/launched.js';
import { orchestrator, succeeds } from '../support/program.js';

const folder = temporaryFolder();
const runDir = join(folder, 'run');
const DATA = 'test/fixtures/huggingface/fixed';
const KEY = /^[a-z0-9]+(_[a-z0-9]+)*$/;
/** Keys that are data: keys of the configuration, names of files, and what is measured at a t or a log-SNR. */
const OF_DATA = /^([a-z0-9_]+\.)+[a-z0-9_]+$/;

let printed = '';

beforeAll(() => {
  printed = succeeds(
    orchestrator(
      'launch',
      TRAINING,
      '--run-dir',
      runDir,
      '--set',
      'schedule.steps=5',
      '--set',
      'schedule.warmup=0',
      '--set',
      'ema.warmup=false',
      '--set',
      'ema.decay=0.99999',
      '--log-format',
      'json',
    ),
  );
});

test('launch --log-format json prints the lines of run.log', () => {
  const events = (text: string) =>
    text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { event: string; level: string });
  const shown = events(printed);
  // What the launch warns of, too.
  expect(shown.filter(({ level }) => level === 'warn')).toMatchObject([
    { event: 'message', message: expect.stringContaining('ema.decay') },
  ]);
  expect(shown.map(({ event }) => event)).toEqual(
    expect.arrayContaining(['phase', 'generation', 'start', 'step', 'checkpoint', 'message']),
  );
  expect(shown).toEqual(events(readFileSync(join(runDir, 'run.log'), 'utf8')));
});

test('launch refuses --quiet together with --log-format', () => {
  const { status, stderr } = orchestrator('launch', TRAINING, '--quiet', '--log-format', 'json');
  expect(status).toBe(2);
  expect(stderr).toContain("option '--quiet' cannot be used with option '--log-format <format>'");
});

function* keysIn(value: unknown): Generator<string> {
  if (Array.isArray(value)) for (const inner of value) yield* keysIn(inner);
  else if (value !== null && typeof value === 'object') {
    for (const [key, inner] of Object.entries(value)) {
      yield key;
      yield* keysIn(inner);
    }
  }
}

/** A form of each command. */
const COMMANDS = [
  ['config', 'show', TRAINING],
  ['config', 'keys', 'batch'],
  ['checkpoint', 'inspect', runDir],
  ['checkpoint', 'verify', runDir],
  ['compare', runDir, runDir],
  ['dataset', 'inspect', DATA],
  ['dataset', 'verify', DATA],
  ['doctor'],
  ['estimate', TRAINING],
  ['launch', TRAINING, '--dry-run', '--nodes', '2', '--run-dir', join(folder, 'new')],
  ['model', 'inspect', runDir],
  ['objective', 'list'],
  ['objective', 'show', 'rf', '--steps', '4'],
  ['profile', TRAINING, '--repeats', '1'],
  ['rows', runDir, '2-3'],
  ['sample', '--checkpoint', runDir, '--rows', '0', '--steps', '1', '--out', join(folder, 'drawn.png')],
  ['runs', folder],
  ['status', runDir],
];
/** Others, whose answers have other parts. */
const FORMS = [
  ['dataset', 'verify', '--config', TRAINING],
  ['estimate', TRAINING, '--flops', '100G', '--bandwidth', '10G'],
  ['launch', TRAINING, '--dry-run', '--run-dir', runDir, '--set', 'schedule.steps=5'],
  ['profile', TRAINING, '--dry'],
];
test.each(rows(COMMANDS, FORMS))('--json of %s %s', (...parameters) => {
  const printed = JSON.parse(succeeds(orchestrator(...parameters, '--json'))) as unknown;
  const keys = [...new Set(keysIn(printed))];
  expect(keys.length).toBeGreaterThan(0);
  expect(keys.filter((key) => !KEY.test(key) && !OF_DATA.test(key))).toEqual([]);
});

test('the lines of metrics.jsonl are as its schema says', () => {
  const lines = readFileSync(join(runDir, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  const parsed = lines.map((line) => metricsLine.parse(JSON.parse(line)));
  expect(new Set(parsed.map(({ type }) => type))).toEqual(new Set(['step', 'validation', 'checkpoint']));
});

test('a checkpoint fits a screen: date, loss, size, hashes and what to do next', () => {
  const page = succeeds(orchestrator('checkpoint', 'inspect', runDir));
  expect(page.split('\n').length).toBeLessThan(24);
  expect(page).toMatch(/^written +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d, [\d.]+ MiB$/m);
  expect(page).toMatch(/^loss +[\d.]+$/m);
  expect(page).toMatch(/^validation +[\d.]+ \(ema\)$/m);
  expect(page).toMatch(/^model\.safetensors .* sha256 [0-9a-f]{64}$/m);
  expect(page).toMatch(/^next: orchestrator sample --checkpoint /m);
  expect(succeeds(orchestrator('model', 'inspect', runDir)).split('\n').length).toBeLessThan(24);
});

test('dataset verify and --dry-run say as data what their pages say', () => {
  const verified = JSON.parse(succeeds(orchestrator('dataset', 'verify', DATA, '--json')));
  expect(verified).toMatchObject({ path: DATA, rows: 48, hashes: 'absent', skips_rows: false });
  const dry = ['launch', TRAINING, '--dry-run', '--nodes', '2', '--run-dir', join(folder, 'new')];
  const planned = JSON.parse(succeeds(orchestrator(...dry, '--json')));
  expect(planned).toMatchObject({
    config: { batch: { global: 20, micro: 4 } },
    epochs: 12,
    slots: 5,
    problems: [],
    ranks: [
      { first_slot: 0, end_slot: 2 },
      { first_slot: 2, end_slot: 5, samples: 12 },
    ],
  });
  expect(planned.processes).toHaveLength(3);
  expect(planned.parameters).toBeGreaterThan(1e6);
  expect(orchestrator('launch', TRAINING, '--json')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('--json needs --dry-run'),
  });
});
