import fs, { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { tensorboardFile } from '../../../src/telemetry/tensorboard.js';
import { eventFiles, eventsIn } from '../../support/event-files.js';
import { temporaryFolder } from '../../support/folders.js';
import { onGpu, record, worker } from '../../support/records.js';

const TIME = new Date('2026-11-27T12:00:00.250Z');

afterEach(() => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
});

function started(folder: string, firstStep: number) {
  const sink = tensorboardFile(folder, 'name: x\n', () => TIME);
  sink.start?.({ firstStep, validations: [], recordedSeconds: 0 });
  return sink;
}

const paths = (folder: string) => eventFiles(folder).map((name) => join(folder, name));

/** The events of the folder's only file behind its version. */
function eventsOf(folder: string) {
  const [version, ...events] = eventsIn(paths(folder)[0]!);
  expect(version?.fileVersion).toBe('brain.Event:2');
  return events;
}

/** The scalars of the folder's only file, by step and tag. */
function scalarsOf(folder: string): [string, number][] {
  return eventsOf(folder).flatMap(({ step, summary }) =>
    (summary?.value ?? []).flatMap(({ tag, value, simpleValue }): [string, number][] =>
      value === 'simpleValue' ? [[`${step} ${tag}`, simpleValue!]] : [],
    ),
  );
}

test('a run begins with the start of its session and its configuration', () => {
  const folder = temporaryFolder();
  void started(folder, 51).close?.();
  const [start, text] = eventsOf(folder);
  expect(start).toMatchObject({ wallTime: TIME.getTime() / 1000, step: 51, sessionLog: { status: 'START' } });
  const value = text?.summary?.value[0];
  expect(text?.step).toBe(50);
  expect(value).toMatchObject({
    tag: 'configuration/text_summary',
    metadata: { pluginData: { pluginName: 'text' } },
  });
  expect(value?.tensor?.stringVal.map(String)).toEqual(['```yaml\nname: x\n```']);
  expect(eventFiles(folder)).toEqual([`events.out.tfevents.1795780800.${hostname()}.${process.pid}.0`]);
});

test('the numbers of a step, a validation and a checkpoint by their tags', () => {
  const folder = temporaryFolder();
  const sink = started(folder, 120);
  sink.step?.({ ...record, workers: [worker, { ...onGpu, rank: 1 }] });
  sink.validation?.({
    step: 120,
    seconds: 2.5,
    results: [
      {
        weights: 'ema',
        mean: 0.5,
        bins: [{ name: 't=0.0625', loss: 0.25 }],
        epsilon: [{ name: 'log_snr=-5.25', loss: 0.125 }],
      },
    ],
    emaDistance: 0.75,
  });
  sink.checkpoint?.({ step: 120, path: 'x', seconds: 1.5, stallSeconds: 0.25, bytes: 4096 });
  sink.step?.({
    ...record,
    step: 121,
    logged: false,
    attentionLogged: false,
    attention: [],
    gradientNorms: {},
  });
  void sink.close?.();

  const scalars = scalarsOf(folder);
  const values = Object.fromEntries(scalars);
  expect(Object.keys(values)).toHaveLength(scalars.length);
  const ofSecond = [...'loss gradient_norm learning_rate epoch'.split(' ').map((key) => `train/${key}`)];
  ofSecond.push(
    ...'seconds samples_per_second flops_per_second'.split(' ').map((key) => `performance/${key}`),
  );
  const tagsOf = (step: number) =>
    Object.keys(values).flatMap((key) => (key.startsWith(`${step} `) ? [key.slice(`${step} `.length)] : []));
  expect(tagsOf(121).sort()).toEqual(ofSecond.sort());
  expect(values).toMatchObject({
    '120 train/loss': Math.fround(record.loss),
    '120 performance/samples_per_second': Math.fround(record.samples / record.seconds),
    '120 attention/max_abs_logit': Math.fround(9.31),
    '120 attention/block 0/max_abs_logit': 5,
    '120 attention/block 0/text/logit_bound': 8,
    '120 attention/block 1 attn2/image/mean_entropy_nats': 3,
    '120 gradient_norms/block 0': Math.fround(0.3),
    '120 workers/rank 0/total_seconds': Math.fround(0.31),
    '120 workers/rank 1/device_bytes': 2 ** 30,
    '120 validation/ema': 0.5,
    '120 validation/ema_t_0.0625': 0.25,
    '120 validation/ema_log_snr_-5.25': 0.125,
    '120 validation/ema_distance': 0.75,
    '120 validation/seconds': 2.5,
    '120 checkpoint/seconds': 1.5,
    '120 checkpoint/stall_seconds': 0.25,
    '120 checkpoint/bytes': 4096,
  });
  expect(tagsOf(120).filter((tag) => /(^|\/)(step|type|rank|device)$/.test(tag))).toEqual([]);
});

test('steps that are run again within a start make what was written of them void', () => {
  const folder = temporaryFolder();
  const sink = started(folder, 1);
  for (const step of [1, 2, 3, 2, 3]) sink.step?.({ ...record, step });
  void sink.close?.();
  const starts = eventsOf(folder).map(({ step, what }) => [step, what]);
  expect(starts).toEqual([
    [1, 'sessionLog'],
    [0, 'summary'],
    [1, 'summary'],
    [2, 'summary'],
    [3, 'summary'],
    [2, 'sessionLog'],
    [2, 'summary'],
    [3, 'summary'],
  ]);
});

test('each start writes a file of its own, which comes after those before, also within a second', () => {
  const folder = temporaryFolder();
  const ahead = 'events.out.tfevents.1795780900.other.1.0';
  writeFileSync(join(folder, 'metrics.jsonl'), '');
  void started(folder, 1).close?.();
  void started(folder, 1).close?.();
  writeFileSync(join(folder, ahead), '');
  void started(folder, 1).close?.();
  const seconds = eventFiles(folder).map((name) => Number(name.split('.')[3]));
  expect(seconds).toEqual([1795780800, 1795780801, 1795780900, 1795780901]);
  expect(readFileSync(join(folder, ahead))).toHaveLength(0);
});

test('does not write through a symbolic link that has the name of its file', () => {
  const folder = temporaryFolder();
  const target = join(folder, 'target');
  writeFileSync(target, 'untouched');
  const { openSync } = fs;
  vi.spyOn(fs, 'openSync').mockImplementation((path, ...rest) => {
    symlinkSync(target, path);
    return openSync(path, ...rest);
  });
  syncBuiltinESMExports();
  expect(() => started(folder, 1)).toThrow('exist');
  expect(readFileSync(target, 'utf8')).toBe('untouched');
});

test('a record for which a full disk has no room is left out, and those after it can be read', () => {
  const folder = temporaryFolder();
  const sink = started(folder, 1);
  const { writeSync } = fs;
  let room = 0;
  vi.spyOn(fs, 'writeSync').mockImplementation((fd, bytes, at) => {
    if (room === 0) throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
    const data = bytes as unknown as Uint8Array;
    const from = at as number;
    const written = writeSync(fd, data, from, Math.min(room, 1000, data.length - from));
    room -= written;
    return written;
  });
  syncBuiltinESMExports();
  sink.step?.({ ...record, step: 1 });
  room = 100;
  sink.step?.({ ...record, step: 2 });
  room = Number.POSITIVE_INFINITY;
  sink.step?.({ ...record, step: 3 });
  void sink.close?.();
  const steps = eventsOf(folder).flatMap(({ step, summary }) =>
    summary?.value.some(({ tag }) => tag === 'train/loss') ? [step] : [],
  );
  expect(steps).toEqual([3]);
});
