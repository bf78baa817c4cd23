/** What the files of a run say, whoever wrote them, and how much of them is read for it. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { loadConfig } from '../../../src/config/load.js';
import { ledgerLine, recordedRows } from '../../../src/coordinator/ledger-file.js';
import { MetricsFile, MetricsTotals, totalsIn } from '../../../src/coordinator/metrics-totals.js';
import {
  recordedAt,
  recordedCurves,
  recordedRun,
  recordedUpTo,
} from '../../../src/coordinator/recorded-run.js';
import { firstSegment, SamplePlan } from '../../../src/step/plan.js';
import { metricsFile } from '../../../src/telemetry/metrics-file.js';
import { recorderOf } from '../../../src/telemetry/record.js';
import { RunProgress } from '../../../src/telemetry/run-progress.js';
import { MINIMAL, yaml } from '../../support/config.js';
import { temporaryFolder } from '../../support/folders.js';
import { header, record } from '../../support/records.js';

const config = loadConfig(yaml(MINIMAL), ['batch.global=8', 'batch.micro=4'], {});
const segments = [firstSegment('a'.repeat(64), 100, 10, 7)];
const jsonl = (lines: readonly object[]) => lines.map((line) => `${JSON.stringify(line)}\n`).join('');

function runWith(files: Record<string, string>): string {
  const runDir = temporaryFolder();
  writeFileSync(join(runDir, 'config.yaml'), stringify(config));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(runDir, name), text);
  return runDir;
}

describe('the rows of a step', () => {
  const rowsOf = (step: number) => [...new SamplePlan(segments).samples(step, 8, 0, 8).rows];
  const journal = jsonl([{ generation: 1, step: 0, segments }]);

  test('follow from the plan, and are compared with the digest in the ledger', async () => {
    const ledger = [1, 2, 3].map((step) => ledgerLine(step, 4, rowsOf(step), 'r'));
    const sha256 = createHash('sha256')
      .update(JSON.stringify(rowsOf(2)))
      .digest('hex');
    expect(ledger[1]).toEqual({ step: 2, slot_samples: 4, rows_sha256: sha256, result_sha256: 'r' });
    const runDir = runWith({ 'ledger.jsonl': jsonl(ledger), 'journal.jsonl': journal });
    const slots = (step: number, micro = 4) =>
      Array.from({ length: 8 / micro }, (_, i) => rowsOf(step).slice(i * micro, (i + 1) * micro));
    expect(await recordedRows(runDir, 2, 3)).toEqual(
      [2, 3].map((step) => ({ step, slots: slots(step), recorded: true })),
    );
    await expect(recordedRows(runDir, 3, 4)).rejects.toMatchObject({
      code: 'ERR_PLAN',
      message: `${runDir} has trained steps 1 to 3, not step 4`,
    });
    // As earlier versions have written it.
    const { slot_samples: micro, ...others } = ledger[0] as { step: number; slot_samples: number };
    writeFileSync(join(runDir, 'ledger.jsonl'), jsonl([{ ...others, micro: micro / 2 }, ledger[1]!]));
    expect(await recordedRows(runDir, 1, 1)).toEqual([{ step: 1, slots: slots(1, 2), recorded: true }]);
    // A later start with other slots.
    ledger[1] = ledgerLine(2, 2, rowsOf(2), 'r');
    writeFileSync(join(runDir, 'ledger.jsonl'), jsonl(ledger));
    expect((await recordedRows(runDir, 2, 2))[0]!.slots).toEqual(slots(2, 2));
    ledger[1] = ledgerLine(2, 4, rowsOf(3), 'r');
    writeFileSync(join(runDir, 'ledger.jsonl'), jsonl(ledger));
    await expect(recordedRows(runDir, 1, 3)).rejects.toMatchObject({
      code: 'ERR_PLAN',
      message: expect.stringContaining('another digest of the rows of step 2'),
    });
  });

  test('of a line that is damaged are those of the plan', async () => {
    const ledger = `${jsonl([ledgerLine(1, 4, rowsOf(1), 'r')])}garbage\n${jsonl([ledgerLine(3, 4, rowsOf(3), 'r')])}`;
    const runDir = runWith({ 'ledger.jsonl': ledger, 'journal.jsonl': journal });
    const rows = await recordedRows(runDir, 1, 3);
    expect(rows.map(({ recorded }) => recorded)).toEqual([true, false, true]);
    expect(rows[1]!.slots.flat()).toEqual(rowsOf(2));
  });

  test('of earlier versions are in the ledger, and stay there when the run goes on', async () => {
    const before = [{ step: 1, slots: [[5, 6], [1, 2]] }]; // biome-ignore format: one line
    const runDir = runWith({ 'ledger.jsonl': jsonl(before), 'journal.jsonl': '{"generation":1}\n' });
    expect(await recordedRows(runDir, 1, 1)).toEqual([{ ...before[0], recorded: true }]);
    writeFileSync(join(runDir, 'ledger.jsonl'), jsonl([...before, ledgerLine(2, 4, rowsOf(2), 'r')]));
    await expect(recordedRows(runDir, 1, 2)).rejects.toMatchObject({
      message: expect.stringContaining('has no sample plan'),
    });
    writeFileSync(join(runDir, 'journal.jsonl'), `{"generation":1}\n${journal}`);
    const [first, second] = await recordedRows(runDir, 1, 2);
    expect(first!.slots).toEqual(before[0]!.slots);
    expect(second!.slots.flat()).toEqual(rowsOf(2));
  });
});

describe('metrics.jsonl', () => {
  const step = (at: number) => ({
    ...{ type: 'step', step: at, loss: 1 / at, gradient_norm: 1, learning_rate: 1, seconds: 0.5, epoch: 1 },
    ...{ samples_per_second: 16, flops_per_second: 1, unix_seconds: 1000 + at },
  });
  const validation = (at: number, loss: number) =>
    ({ type: 'validation', step: at, seconds: 2, val_ema: loss, unix_seconds: 1000 + at }) as const;
  const lines = Array.from({ length: 300 }, (_, i) => i + 1).flatMap((at) => [
    step(at),
    ...(at % 100 === 0 ? [validation(at, at === 100 ? 0.1 : 0.3)] : []),
    ...(at === 50 ? [{ type: 'missed_checkpoint', step: 50, reason: 'failed', unix_seconds: 1050 }] : []),
  ]);

  /** The run, with totals in the journal after step 250. */
  function recorded(): { runDir: string; bytes: number } {
    const runDir = runWith({ 'journal.jsonl': '{"generation":1,"step":0}\n' });
    const file = new MetricsFile(join(runDir, 'metrics.jsonl'), new MetricsTotals());
    let bytes = 0;
    for (const line of lines) {
      file.append(line);
      if (line.type !== 'step' || line.step !== 250) continue;
      bytes = file.recorded.bytes;
      const journal = { generation: 1, step: 250, metrics: file.recorded };
      writeFileSync(join(runDir, 'journal.jsonl'), jsonl([journal]));
    }
    file.close();
    return { runDir, bytes };
  }

  const numbers = {
    step: 300,
    elapsed_seconds: 300 * 0.5 + 3 * 2,
    missed_checkpoints: 1,
    validation: {
      weights: 'ema',
      last: { step: 300, loss: 0.3 },
      best: { step: 100, loss: 0.1 },
      seconds: 2,
    },
    samples_per_second: 16,
  };

  test('is read from the last totals in the journal on, or whole where it has none', async () => {
    const { runDir, bytes } = recorded();
    const path = join(runDir, 'metrics.jsonl');
    const whole = readFileSync(path);
    const of = async () => await recordedRun(runDir);
    expect((await of()).view).toMatchObject(numbers);
    expect(await of()).toMatchObject({ lastLoss: 300, lastWritten: 1300 });
    // What lies before the totals is not read.
    writeFileSync(path, Buffer.concat([Buffer.alloc(bytes - 1, 'x'), whole.subarray(bytes - 1)]));
    expect((await of()).view).toMatchObject(numbers);
    writeFileSync(path, whole);
    // A file that was cut since is read from its beginning.
    writeFileSync(path, whole.subarray(0, Math.floor(bytes / 2)));
    expect((await of()).view.step).toBeLessThan(250);
    expect((await of()).view.validation?.last).toEqual({ step: 100, loss: 0.1 });
    writeFileSync(path, whole);
    writeFileSync(join(runDir, 'journal.jsonl'), '{"generation":1,"step":0}\n');
    expect((await of()).view).toMatchObject(numbers);
  });

  test('adds up to the elapsed time that was shown while the run went on, whatever came between its steps', async () => {
    const runDir = runWith({ 'journal.jsonl': '{"generation":1,"step":0}\n' });
    const [path, start] = [join(runDir, 'metrics.jsonl'), { firstStep: 1, validations: [] }];
    let totals = new MetricsTotals();
    for (const [firstStep, seconds] of [
      [1, 2],
      [4, 3],
    ] as const) {
      let now = 1e6 * firstStep;
      const file = new MetricsFile(path, totals);
      const shown = new RunProgress(header, () => now);
      const sink = metricsFile(() => file);
      const both = recorderOf([shown, sink]);
      both.begin();
      both.start({ ...start, firstStep, recordedSeconds: file.recorded.seconds });
      const elapsed = () => shown.view().elapsed_seconds - file.recorded.seconds;
      both.phase('RUNNING');
      now += 1_000;
      expect(elapsed()).toBeCloseTo(1, 9);
      for (let step = firstStep; step < firstStep + 3; step++) {
        const recordedSeconds = file.recorded.seconds + seconds;
        both.step({ ...record, step, seconds, recordedSeconds });
      }
      now += 7_000;
      both.validation({ step: firstStep, seconds: 5, results: [], emaDistance: null });
      expect(elapsed()).toBeCloseTo(2, 9);
      // A worker is lost, and its step with it.
      both.phase('FORMING');
      now += 60_000;
      both.phase('RUNNING');
      now += 4_000;
      expect(elapsed()).toBeCloseTo(4, 9);
      both.phase('CHECKPOINTING');
      now += 9_000;
      both.phase('DONE');
      expect(elapsed()).toBeCloseTo(0, 9);
      expect(shown.totals.seconds).toBe(3 * seconds + 5);
      const { view } = await recordedRun(runDir);
      expect(view.elapsed_seconds).toBe(shown.view().elapsed_seconds);
      totals = MetricsTotals.of(path, null);
      file.close();
    }
  });

  test('a run that was killed is done if its last checkpoint is there', async () => {
    const { runDir } = recorded();
    const phase = async () => (await recordedRun(runDir)).view.phase;
    const saved = (step: number) => {
      const folder = join(runDir, 'checkpoints', `step-${String(step).padStart(8, '0')}`);
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, 'manifest.json'), '{}');
    };
    const { steps } = config.schedule;
    saved(steps - 1);
    expect(await phase()).toBe('KILLED');
    saved(steps);
    expect(await phase()).toBe('DONE');
  });

  test('totals that are not what this version writes are passed over', () => {
    for (const metrics of [null, 5, {}, { bytes: -1, seconds: 0, missed_checkpoints: 0, validation: null }])
      expect(totalsIn({ metrics })).toBeNull();
  });

  test('the numbers at a step, and up to it', () => {
    const { runDir } = recorded();
    expect(recordedAt(runDir, 200)).toEqual({ loss: 1 / 200, validation: { weights: 'ema', mean: 0.3 } });
    expect(recordedAt(runDir, 201)).toEqual({ loss: 1 / 201, validation: null });
    expect(recordedAt(runDir, 999)).toEqual({ loss: null, validation: null });
    const mean = (from: number, to: number) => {
      let sum = 0;
      for (let at = to; at >= from; at--) sum += 1 / at;
      return sum / (to - from + 1);
    };
    expect(recordedUpTo(runDir, 299, true)).toEqual({
      loss: mean(250, 299),
      validation: { step: 200, loss: 0.3 },
    });
    expect(recordedUpTo(runDir, 20, true)).toEqual({ loss: mean(1, 20), validation: null });
    expect(recordedUpTo(runDir, 0, true)).toEqual({ loss: null, validation: null });
  });
});

test('curves have the losses of all steps and validations, of earlier versions, too, in a bounded number of points', () => {
  const lines = Array.from({ length: 1_000 }, (_, i) => [
    { type: 'step', step: i + 1, loss: i % 2, gradient_norm: 1, seconds: 0.1 },
    ...(i % 100 === 99
      ? [{ type: 'validation', step: i + 1, seconds: 1, val_master: 2, val_ema: 1 + i }]
      : []),
  ]).flat();
  const damaged = '{"type":"step","step":10\n';
  const before = { type: 'validation', step: 1_001, seconds: 1, ema: { mean: 0.5 } };
  const undefinedLoss = { type: 'step', step: 1_001, loss: Number.NaN };
  const runDir = runWith({ 'metrics.jsonl': jsonl(lines) + damaged + jsonl([undefinedLoss, before]) });
  const { losses, validations } = recordedCurves(runDir, 400);
  expect(losses).toHaveLength(250);
  expect(losses.at(-1)).toEqual({ step: 1_000, loss: 0.5 });
  expect(validations).toHaveLength(11);
  expect(validations[0]).toEqual({ step: 100, loss: 100 });
  expect(validations.at(-1)).toEqual({ step: 1_001, loss: 0.5 });
  expect(recordedCurves(temporaryFolder(), 400)).toEqual({ losses: [], validations: [] });
});
