/** The run folder: nothing changes before a run begins, and a kill while it begins leaves a run that goes on. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { listCheckpoints } from '../../../src/checkpoint/retention.js';
import { loadConfig } from '../../../src/config/load.js';
import { readRecords } from '../../../src/run-folder/kept-records.js';
import { checkRunDir, RunDir, recordedStep } from '../../../src/run-folder/run-dir.js';
import { MINIMAL, yaml } from '../../support/config.js';
import { temporaryFolder } from '../../support/folders.js';

const config = loadConfig(yaml(MINIMAL), [], {});
const lines = (path: string) => readFileSync(path, 'utf8').trimEnd().split('\n');

/** The run goes on from a step. */
async function begin(dir: RunDir, step: number, own = true) {
  const resolved = { config, own, step };
  return dir.begin(resolved, await readRecords(dir.path, recordedStep(resolved)));
}

/** A run that was trained to step 6, with checkpoints of steps 2, 4 and 6. */
function trained(): string {
  const path = join(temporaryFolder(), 'run');
  for (const step of [2, 4, 6])
    mkdirSync(join(path, 'checkpoints', `step-0000000${step}`), { recursive: true });
  const records = [1, 2, 3, 4, 5, 6].map((step) => `${JSON.stringify({ step })}\n`).join('');
  writeFileSync(join(path, 'ledger.jsonl'), records);
  writeFileSync(join(path, 'metrics.jsonl'), records);
  writeFileSync(join(path, 'journal.jsonl'), '{"generation":3,"step":0}\n{"generation":3,"ste');
  writeFileSync(join(path, 'config.yaml'), 'name: former\n');
  return path;
}

describe('begin', () => {
  test('sets later checkpoints aside, cuts the records, and keeps the former configuration', async () => {
    const path = trained();
    const dir = await RunDir.open(path);
    expect(dir.lastGeneration).toBe(3);
    expect((await begin(dir, 2)).notes).toHaveLength(2);
    dir.release();
    expect((await listCheckpoints(join(path, 'checkpoints'))).map(({ step }) => step)).toEqual([2]);
    expect(lines(join(path, 'ledger.jsonl'))).toEqual(['{"step":1}', '{"step":2}']);
    expect(lines(join(path, 'journal.jsonl'))).toEqual(['{"generation":3,"step":0}']);
    expect(readFileSync(join(path, 'config.3.yaml'), 'utf8')).toBe('name: former\n');
    expect(parse(readFileSync(join(path, 'config.yaml'), 'utf8'))).toEqual(config);
    expect(readdirSync(path)).not.toContain('lock');
  });

  test('tells the validation losses of the EMA that the run goes on from', async () => {
    const path = trained();
    const validations = [
      { type: 'validation', step: 1, ema: { mean: 0.5 }, master: { mean: 0.4 } },
      { type: 'step', step: 2 },
      { type: 'validation', step: 2, master: { mean: 0.3 } },
      { type: 'validation', step: 4, ema: { mean: 0.2 } },
      { type: 'validation', step: 5, ema: { mean: 0.1 } },
    ];
    writeFileSync(
      join(path, 'metrics.jsonl'),
      validations.map((line) => `${JSON.stringify(line)}\n`).join(''),
    );
    const dir = await RunDir.open(path);
    const { losses } = await begin(dir, 4);
    dir.release();
    expect([...losses]).toEqual([
      [1, 0.5],
      [4, 0.2],
    ]);
  });

  test.each([
    [0, 'steps 1 to 6, which this folder recorded, are in no checkpoint of this run'],
    [4, 'steps 5 to 6, which this folder recorded, came after the checkpoint: they are trained again'],
    [
      5,
      'step 6, which this folder recorded, came after the checkpoint: it is trained again, and its record is',
    ],
  ])('says which records are replaced: from step %i', async (step, words) => {
    const path = trained();
    rmSync(join(path, 'checkpoints', 'step-00000006'), { recursive: true });
    const records = [1, 2, 3, 4, 5, 6].map((at) => `{"step":${at},"slots":[]}\n`).join('');
    writeFileSync(join(path, 'ledger.jsonl'), records);
    const dir = await RunDir.open(path);
    const { notes } = await begin(dir, step);
    dir.release();
    expect(notes.filter((note) => /^steps? /.test(note))).toEqual([expect.stringContaining(words)]);
  });

  test('with a checkpoint of another run, nothing of what the folder recorded stays', async () => {
    const path = trained();
    const dir = await RunDir.open(path);
    expect((await begin(dir, 4, false)).losses.size).toBe(0);
    dir.release();
    expect(readFileSync(join(path, 'ledger.jsonl'), 'utf8')).toBe('');
  });

  test.each(['config.yaml.new', 'config.3.yaml', 'config.3.yaml.new'])(
    'does not write through %s, a symbolic link',
    async (name) => {
      const path = trained();
      const other = join(temporaryFolder(), 'other');
      writeFileSync(other, 'untouched');
      symlinkSync(other, join(path, name));
      const dir = await RunDir.open(path);
      await begin(dir, 2);
      dir.release();
      expect(readFileSync(other, 'utf8')).toBe('untouched');
      expect(readFileSync(join(path, 'config.3.yaml'), 'utf8')).toBe('name: former\n');
      expect(parse(readFileSync(join(path, 'config.yaml'), 'utf8'))).toEqual(config);
    },
  );

  test.each([
    ['ledger.jsonl', [2], 'former'],
    ['config.yaml.new', [2], 'former'],
  ])(
    'interrupted at %s: the earlier checkpoint and the former configuration are there',
    async (name, steps, former) => {
      const path = trained();
      const dir = await RunDir.open(path);
      const kept = await readRecords(path, 2);
      // What cannot be written ends it there, as a kill would.
      rmSync(join(path, name), { force: true });
      mkdirSync(join(path, name));
      expect(() => dir.begin({ config, own: true, step: 2 }, kept)).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^ERR_FILE_(OPEN|WRITE)$/) }),
      );
      dir.release();
      expect((await listCheckpoints(join(path, 'checkpoints'))).map(({ step }) => step)).toEqual(steps);
      expect(readFileSync(join(path, 'config.yaml'), 'utf8')).toBe(`name: ${former}\n`);
      rmSync(join(path, name), { recursive: true });
      const again = await RunDir.open(path);
      await begin(again, 2);
      again.release();
      expect(parse(readFileSync(join(path, 'config.yaml'), 'utf8'))).toEqual(config);
    },
  );
});

describe('before the run begins', () => {
  test('a folder is as it was, and one that was made goes with its parents', async () => {
    const path = trained();
    const copy = `${path}-copy`;
    cpSync(path, copy, { recursive: true });
    (await RunDir.open(path)).release();
    const names = (root: string) => readdirSync(root, { recursive: true }).sort();
    expect(names(path)).toEqual(names(copy));
    const root = temporaryFolder();
    const fresh = await RunDir.open(join(root, 'a', 'b'));
    fresh.release();
    expect(readdirSync(root)).toEqual([]);
  });

  test('a folder in which somebody put something meanwhile stays', async () => {
    const root = temporaryFolder();
    const dir = await RunDir.open(join(root, 'a', 'b'));
    writeFileSync(join(root, 'a', 'note'), '');
    dir.release();
    expect(existsSync(join(root, 'a', 'b'))).toBe(false);
    expect(existsSync(join(root, 'a', 'note'))).toBe(true);
  });
});

describe('a folder that no run can use is refused', () => {
  test.each(['manifest.json', 'state.json', 'model_index.json', 'model.safetensors'])(
    'with %s in it',
    (name) => {
      const path = temporaryFolder();
      writeFileSync(join(path, name), '');
      expect(() => checkRunDir(path)).toThrow(
        expect.objectContaining({
          code: 'ERR_RUN_DIR',
          message: expect.stringContaining(`it holds ${name}`),
        }),
      );
      // A run that was trained there by an earlier version goes on.
      writeFileSync(join(path, 'journal.jsonl'), '');
      expect(() => checkRunDir(path)).not.toThrow();
    },
  );

  test('with a log that is a folder', () => {
    const path = temporaryFolder();
    mkdirSync(join(path, 'run.log'));
    expect(() => checkRunDir(path)).toThrow(
      expect.objectContaining({ message: expect.stringContaining('run.log: it is a folder (EISDIR)') }),
    );
  });

  test('that is a file, or below one; a link to a folder, other files and a missing folder are not', () => {
    const root = temporaryFolder();
    writeFileSync(join(root, 'file'), '');
    const refused = expect.objectContaining({ code: 'ERR_RUN_DIR' });
    for (const path of ['file', 'file/run']) expect(() => checkRunDir(join(root, path))).toThrow(refused);
    // Where root may write, and nothing can be made.
    for (const path of ['/proc/run', '/sys/run']) expect(() => checkRunDir(path)).toThrow(refused);
    symlinkSync(root, join(root, 'link'));
    for (const path of ['link', '.', 'new/run']) expect(() => checkRunDir(join(root, path))).not.toThrow();
  });
});
