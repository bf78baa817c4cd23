import { appendFileSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  attentionSummary,
  lossByTime,
  stepLoss,
  stepRows,
  validationSummary,
} from '../../../src/coordinator/combine.js';
import { describePlaces } from '../../../src/coordinator/run-records.js';
import { damageOf, JsonlFile, leadingLines, leadingLinesOfLong } from '../../../src/files/jsonl.js';
import { lockFile } from '../../../src/native/lock.js';
import type { Prepared, Validated } from '../../../src/rpc/proto.js';
import { logFile } from '../../../src/telemetry/log.js';
import { temporaryFolder } from '../../support/folders.js';

const folder = temporaryFolder();

describe('lines', () => {
  const upTo = (step: number) => (line: Record<string, unknown>) => (line.step as number) <= step;
  const linesOf = (text: string, keep = upTo(9)) => {
    const path = join(folder, 'scanned.jsonl');
    writeFileSync(path, text);
    const leading = leadingLines(path, keep);
    expect(readFileSync(path, 'utf8')).toBe(text);
    return { ...leading, text: readFileSync(path).toString('utf8', 0, leading.bytes) };
  };

  test('are cut back to a step, and half a line goes', () => {
    const path = join(folder, 'ledger.jsonl');
    const file = new JsonlFile(path);
    for (let step = 1; step <= 5; step++) file.append({ step, note: 'ä'.repeat(step) });
    appendFileSync(path, '{"step": 6, "no');
    expect(leadingLines(path, upTo(9))).toMatchObject({ lines: 5, damaged: [] });
    const leading = leadingLines(path, upTo(3));
    expect(leading).toMatchObject({ lines: 3, damaged: [] });
    file.cutTo(leading.bytes);
    file.append({ step: 4 });
    file.sync();
    file.close();
    expect(readFileSync(path, 'utf8')).toBe(
      '{"step":1,"note":"ä"}\n{"step":2,"note":"ää"}\n{"step":3,"note":"äää"}\n{"step":4}\n',
    );
  });

  test('longer than a read are read whole', () => {
    const path = join(folder, 'long.jsonl');
    const file = new JsonlFile(path);
    for (const step of [1, 2]) file.append({ step, note: 'x'.repeat(3_000_000) });
    const { lines, bytes } = leadingLines(path, upTo(1));
    expect(lines).toBe(1);
    expect(bytes).toBe(readFileSync(path).length / 2);
    file.close();
  });

  test('of a long file are read with turns of other work in between, with the same result', async () => {
    const path = join(folder, 'steps.jsonl');
    const text = Array.from({ length: 20_000 }, (_, i) => `{"step":${i}}\n`);
    text[7] = 'garbage\n';
    writeFileSync(path, text.join(''));
    let turns = 0;
    const count = () => {
      turns++;
      next = setImmediate(count);
    };
    let next = setImmediate(count);
    const leading = await leadingLinesOfLong(path, upTo(15_000));
    clearImmediate(next);
    expect(turns).toBeGreaterThanOrEqual(15);
    expect(leading).toEqual(leadingLines(path, upTo(15_000)));
    expect(leading).toMatchObject({ lines: 15_001, damaged: [8] });
  });

  test('a damaged one does not take those behind it along, and is named', () => {
    const found = linesOf('{"step":1}\ngarbage\n{"step":2}\n{"step":10}\nmore garbage\n');
    expect(found).toMatchObject({ lines: 3, damaged: [2], text: '{"step":1}\ngarbage\n{"step":2}\n' });
    expect(damageOf('runs/x/ledger.jsonl', found)).toBe(
      'runs/x/ledger.jsonl: not a JSON object in line 2; what was recorded there is lost, training is not affected',
    );
    expect(damageOf('x', linesOf('{"step":1}\n'))).toBeNull();
    const many = linesOf(`${'5\n'.repeat(8)}{"step":1}\n`);
    expect(damageOf('x', many)).toContain('in line 1, 2, 3, 4, 5 and 3 more;');
  });

  test('damaged ones at the end are cut, and named', () => {
    expect(linesOf('{"step":1}\n\0\0\n[]\n{"st')).toMatchObject({
      lines: 1,
      damaged: [2, 3],
      text: '{"step":1}\n',
    });
  });

  test('of a file that is not there are none', () => {
    expect(leadingLines(join(folder, 'nowhere.jsonl'), upTo(9))).toEqual({ lines: 0, bytes: 0, damaged: [] });
  });

  test('are not written through a symbolic link, nor read', () => {
    const [victim, path] = [join(folder, 'victim'), join(folder, 'link.jsonl')];
    writeFileSync(victim, 'mine');
    symlinkSync(victim, path);
    const refused = expect.objectContaining({
      message: expect.stringContaining(`${path}: it is a symbolic link (ELOOP)`),
    });
    expect(() => new JsonlFile(path)).toThrow(refused);
    expect(() => leadingLines(path, upTo(9))).toThrow(refused);
    expect(() => logFile(path).begin?.()).toThrow(refused);
    expect(readFileSync(victim, 'utf8')).toBe('mine');
  });

  test('a full disk is an error that names the file', () => {
    const file = new JsonlFile('/dev/full');
    expect(() => file.append({ step: 1 })).toThrow(
      expect.objectContaining({
        code: 'ERR_FILE_WRITE',
        message: expect.stringContaining(
          'Cannot write to /dev/full: no space is left on the device (ENOSPC)',
        ),
      }),
    );
    file.close();
  });
});

describe('the lock of a run folder', () => {
  test('is held by one, and free again afterwards', () => {
    const path = join(folder, 'lock');
    const unlock = lockFile(path);
    expect(() => lockFile(path)).toThrow(`${path} is held by process ${process.pid}`);
    unlock();
    lockFile(path)();
  });

  test('of a dead process, of a recycled pid and of a torn write is taken over', () => {
    const path = join(folder, 'stale');
    const stale = [
      { pid: 2 ** 22 + 1, started: '1' },
      { pid: process.pid, started: '1' },
    ].map((owner) => JSON.stringify(owner));
    for (const text of [...stale, '{"pid": 1']) {
      writeFileSync(path, text);
      lockFile(path)();
    }
  });
});

const answer = (slots: { slot: number; losses: number[] }[], attention: Prepared['attention'] = []) =>
  ({
    slots: slots.map((slot) => ({ samples: [slot.slot], ...slot })),
    attention,
  }) as unknown as Prepared;

describe('combining', () => {
  test('the loss does not depend on who computed which slot', () => {
    const slots = Array.from({ length: 7 }, (_, slot) => ({
      slot,
      losses: [0.1 * slot, 1e9 / (slot + 1), 1 / 3],
    }));
    const one = stepLoss([answer(slots)]);
    for (let cut = 1; cut < 7; cut++) {
      expect(stepLoss([answer(slots.slice(cut)), answer(slots.slice(0, cut))])).toBe(one);
    }
    expect(stepRows([answer(slots.slice(3)), answer(slots.slice(0, 3))])).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test('attention: of each stream the largest logit of all, the mean entropy by rows, the bound of rank 0', () => {
    const slot = (n: number) => ({ slot: n, losses: [] });
    const of = (stream: string, maxAbsLogit: number, meanEntropy: number, rows: number, logitBound = 0) => ({
      name: 'block 0',
      stream,
      maxAbsLogit,
      meanEntropy,
      rows,
      logitBound,
    });
    const one = answer([slot(0)], [of('text', 3, 1, 10, 8), of('image', 1, 4, 20, 9)]);
    const two = answer([slot(1), slot(2), slot(3)], [of('text', 2, 2, 30), of('image', 5, 1, 60)]);
    expect(attentionSummary([one, two])).toEqual([of('text', 3, 1.75, 40, 8), of('image', 5, 1.75, 80, 9)]);
    expect(attentionSummary([answer([slot(0)])])).toEqual([]);
  });

  test('the training loss by bins of t, of whom ever computed the slots', () => {
    const slot = (n: number, losses: number[], times: number[], skipped: number[] = []) => ({
      ...{ slot: n, losses, times, skipped },
      samples: losses.map((_, i) => 10 * n + i),
    });
    // Row 12 is skipped: its loss of 0 is in no bin.
    const slots = [slot(0, [1, 2], [0, 0.124]), slot(1, [4, 8, 0], [0.125, 1, 0.5], [12])];
    const bins = [
      { name: 't=0.0625', sum: 3, samples: 2 },
      { name: 't=0.1875', sum: 4, samples: 1 },
      { name: 't=0.9375', sum: 8, samples: 1 },
    ];
    expect(lossByTime([answer(slots)])).toEqual(bins);
    expect(lossByTime([answer(slots.slice(1)), answer(slots.slice(0, 1))])).toEqual(bins);
    const bare = slot(2, [16, 32], [Number.NaN]);
    expect(lossByTime([answer([...slots, bare])])).toEqual(bins);
  });

  test('validation by bins, for each kind of weights', () => {
    const loss = (weights: string, slot: number, losses: number[]) => ({ weights, slot, losses });
    const parts = [
      { step: 1, losses: [loss('master', 2, [4]), loss('ema', 2, [40]), loss('ema', 3, [7, 8])] },
      {
        step: 1,
        losses: [
          loss('ema', 0, [10, 20]),
          loss('ema', 1, [30]),
          loss('master', 0, [1, 2]),
          loss('master', 1, [3]),
          loss('master', 3, [9]),
        ],
      },
    ] as Validated[];
    expect(validationSummary(parts, ['low', 'low', 'high', 'log_snr=0.75'])).toEqual([
      {
        weights: 'ema',
        mean: 30,
        bins: [
          { name: 'low', loss: 20 },
          { name: 'high', loss: 40 },
        ],
        epsilon: [{ name: 'log_snr=0.75', loss: 7.5 }],
      },
      {
        weights: 'master',
        mean: 3,
        bins: [
          { name: 'low', loss: 2 },
          { name: 'high', loss: 4 },
        ],
        epsilon: [{ name: 'log_snr=0.75', loss: 9 }],
      },
    ]);
  });
});

test('places say on which host a worker is where there are several', () => {
  const addresses = { dataAddress: '', localAddress: '', machine: '', sharedMemory: '' };
  const place = (rank: number, host: string) => ({
    ...{ id: `w${rank}`, rank, host, pid: 10 + rank, firstSlot: 2 * rank, endSlot: 2 * rank + 2 },
    ...addresses,
  });
  expect(describePlaces([place(0, 'a'), place(1, 'a')])).toBe(
    'rank 0 (pid 10): slots 0-1, rank 1 (pid 11): slots 2-3',
  );
  expect(describePlaces([place(0, 'a'), place(1, 'b')])).toBe(
    'rank 0 (pid 10 on a): slots 0-1, rank 1 (pid 11 on b): slots 2-3',
  );
});
