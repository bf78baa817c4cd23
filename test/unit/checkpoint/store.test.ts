import { appendFileSync, existsSync, readdirSync } from 'node:fs';
import { appendFile, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  checkEncoders,
  otherArithmetic,
  resolveCheckpoint,
  resolveResume,
} from '../../../src/checkpoint/resume.js';
import {
  loadCheckpoint,
  publishCheckpoint,
  stageCheckpoint,
  verifyCheckpoint,
} from '../../../src/checkpoint/store.js';
import { Safetensors } from '../../../src/formats/safetensors/file.js';
import { Weights } from '../../../src/model/weights.js';
import type { StateName } from '../../../src/native/contract.js';
import { contentOf, runFolder, sameBytes, saveCheckpoint, stateOf } from '../../support/checkpoints.js';
import { SMALL } from '../../support/engines.js';
import { temporaryFolder } from '../../support/folders.js';
import { FULL } from '../../support/full.js';
import { generator } from '../../support/random.js';

function emptyTargets(
  content: ReturnType<typeof contentOf>,
  names: StateName[] = ['master', 'ema', 'm', 'v'],
) {
  const flat = new Map(names.map((name) => [name, new Float32Array(content.layout.length)]));
  return {
    layout: content.layout,
    flat,
    state: stateOf(content.layout, flat),
    posEmbed: new Float32Array(content.posEmbed.length),
  };
}

type Flat = ReadonlyMap<StateName, Float32Array>;
function expectState(found: Flat, expected: Flat): void {
  expect([...found.keys()]).toEqual([...expected.keys()]);
  for (const [name, flat] of expected) expect(sameBytes(found.get(name)!, flat), name).toBe(true);
}

describe('saving and loading', () => {
  test('gives back every array and every word', async () => {
    const { root } = runFolder();
    const content = contentOf(1000, 1);
    const saved = await saveCheckpoint(root, content);
    expect(saved.path).toBe(join(root, 'step-00001000'));
    const targets = emptyTargets(content);
    const manifest = await loadCheckpoint(saved.path, targets);
    expectState(targets.flat, content.flat);
    expect(sameBytes(targets.posEmbed, content.posEmbed)).toBe(true);
    expect(manifest).toEqual(saved.manifest);
    expect(manifest).toMatchObject(content.metadata);
    expect(await verifyCheckpoint(saved.path)).toEqual(manifest);
    expect(await readdir(root)).toEqual(['step-00001000']);
  });

  test('writes weights and EMA as files of the official names', async () => {
    const { root } = runFolder();
    const { path } = await saveCheckpoint(root, contentOf(3, 1));
    for (const name of ['model.safetensors', 'ema.safetensors']) {
      const file = await Safetensors.open(join(path, name));
      expect(new Weights(file).spec).toEqual(SMALL);
      expect([...file.tensors.keys()][0]).toBe('model.diffusion_model.pos_embed');
      await file.close();
    }
  });

  test('writes the same bytes for the same state', async () => {
    const one = await saveCheckpoint(runFolder().root, contentOf(5, 9));
    const two = await saveCheckpoint(runFolder().root, contentOf(5, 9));
    for (const name of await readdir(one.path)) {
      expect((await readFile(join(one.path, name))).equals(await readFile(join(two.path, name)))).toBe(true);
    }
  });

  test('has no ema.safetensors for a run without EMA, and says so when one is asked for', async () => {
    const { root } = runFolder();
    const content = contentOf(1, 1);
    const state = new Map([...content.state].filter(([name]) => name !== 'ema'));
    const { path } = await saveCheckpoint(root, { ...content, state });
    expect(existsSync(join(path, 'ema.safetensors'))).toBe(false);
    await loadCheckpoint(path, emptyTargets(content, ['master', 'm', 'v']));
    await expect(loadCheckpoint(path, emptyTargets(content))).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_MISMATCH',
      message: expect.stringContaining('kept no EMA'),
    });
  });

  test('replaces a checkpoint of the same step', async () => {
    const { root } = runFolder();
    await saveCheckpoint(root, contentOf(7, 1));
    const second = contentOf(7, 2);
    // However the folder is spelt.
    const { path } = await saveCheckpoint(`${root}//`, second);
    const targets = emptyTargets(second);
    await loadCheckpoint(path, targets);
    expectState(targets.flat, second.flat);
    expect(await readdir(root)).toEqual(['step-00000007']);
  });

  test('a staged checkpoint is complete, and nobody takes it for one before it is published', async () => {
    const { dir, root } = runFolder();
    let signs = 0;
    const { folder, manifest } = await stageCheckpoint(root, contentOf(7, 1), () => signs++);
    expect(signs).toBeGreaterThan(10);
    expect(await readdir(root)).toEqual([folder]);
    expect(await verifyCheckpoint(join(root, folder))).toEqual(manifest);
    expect(await resolveResume('auto', dir)).toBeNull();
    expect(await publishCheckpoint(root, folder)).toBe(join(root, 'step-00000007'));
    expect((await resolveResume('auto', dir))?.manifest).toEqual(manifest);
  });

  test('only the name of a staged checkpoint is published, and what cannot be is removed', async () => {
    const { root } = runFolder();
    const { folder } = await stageCheckpoint(root, contentOf(7, 1));
    for (const name of ['step-00000001', '../x', `${folder}/../y`, '.partial-step-00000007-1-xyz']) {
      await expect(publishCheckpoint(root, name)).rejects.toMatchObject({ code: 'ERR_PROTOCOL' });
    }
    await rm(join(root, folder), { recursive: true });
    await expect(publishCheckpoint(root, folder)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_WRITE',
      message: expect.stringMatching(/^The checkpoint of step 7 was not written: .*ENOENT.*untouched$/),
    });
    expect(await readdir(root)).toEqual([]);
  });

  test('what does not read back as it was written is not a checkpoint', async () => {
    const { root } = runFolder();
    const content = contentOf(7, 1);
    // While the last file is written, something changes a file that was written and flushed before it.
    const spoilt = new Map(content.state);
    spoilt.set('v', (tensor) => {
      const [folder] = readdirSync(root);
      appendFileSync(join(root, folder!, 'ema.safetensors'), 'x');
      return content.state.get('v')!(tensor);
    });
    await expect(stageCheckpoint(root, { ...content, state: spoilt })).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_WRITE',
      message: expect.stringMatching(
        /step 7 was not written: .* reads back otherwise: .*ema\.safetensors: holds/,
      ),
      hint: 'Check the disk and the memory of this machine',
    });
    expect(await readdir(root)).toEqual([]);
  });

  test('refuses a layout of another model', async () => {
    const { root } = runFolder();
    const { path } = await saveCheckpoint(root, contentOf(1, 1));
    const other = contentOf(1, 1, { ...SMALL, depth: 3 });
    await expect(loadCheckpoint(path, emptyTargets(other))).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_MISMATCH',
      message: expect.stringMatching(/another model \(depth 2.*joint_blocks/),
    });
  });

  test('leaves nothing behind where the state is not the layout', async () => {
    const { root } = runFolder();
    const content = contentOf(1, 1);
    const without = (...names: string[]) =>
      new Map([...content.state].filter(([name]) => !names.includes(name)));
    const short = new Map([...content.state, ['v', () => new Float32Array(3)] as const]);
    for (const state of [without('v'), without('m', 'v'), without('master'), short]) {
      await expect(saveCheckpoint(root, { ...content, state })).rejects.toMatchObject({
        code: 'ERR_INTERNAL',
      });
    }
    expect(await readdir(root)).toEqual([]);
  });
});

describe('damage', () => {
  test('notices any flipped bit, and names the file', async () => {
    const { root } = runFolder();
    const content = contentOf(20, 4);
    const { path } = await saveCheckpoint(root, content);
    const targets = emptyTargets(content);
    const random = generator(5);
    for (const name of ['manifest.json', 'model.safetensors', 'ema.safetensors', 'optimizer.safetensors']) {
      const file = join(path, name);
      const good = await readFile(file);
      const headerBytes = name === 'manifest.json' ? good.length : 8 + good.readUInt32LE(0);
      // Every bit of the first and the last bytes, and a sample of header and data.
      const places = [0, 1, 7, good.length - 1, headerBytes - 1];
      for (let i = 0; i < (FULL ? 25 : 6); i++) places.push(Math.floor(random() * headerBytes));
      for (let i = 0; i < (FULL ? 10 : 4); i++) places.push(Math.floor(random() * good.length));
      for (const at of places) {
        const bad = Buffer.from(good);
        bad[at]! ^= 1 << Math.floor(random() * 8);
        await writeFile(file, bad);
        const refusal = { code: 'ERR_CHECKPOINT_DAMAGED', message: expect.stringContaining(file) };
        await expect(verifyCheckpoint(path), `${name} byte ${at}`).rejects.toMatchObject(refusal);
        await expect(loadCheckpoint(path, targets), `${name} byte ${at}`).rejects.toMatchObject(refusal);
      }
      await writeFile(file, good);
    }
    await verifyCheckpoint(path);
  });

  test('notices missing, truncated and longer files, and a folder under another name', async () => {
    const { root } = runFolder();
    const { path } = await saveCheckpoint(root, contentOf(20, 4));
    const file = join(path, 'ema.safetensors');
    const good = await readFile(file);
    await truncate(file, good.length - 1);
    await expect(verifyCheckpoint(path)).rejects.toThrow(
      /ema\.safetensors: holds \d+ bytes; the manifest says/,
    );
    await writeFile(file, good);
    await appendFile(file, 'x');
    await expect(verifyCheckpoint(path)).rejects.toThrow(/ema\.safetensors: holds/);
    await rm(file);
    await expect(verifyCheckpoint(path)).rejects.toMatchObject({ code: 'ERR_CHECKPOINT_DAMAGED' });
    await writeFile(file, good);
    await rename(path, join(root, 'step-00000030'));
    await expect(verifyCheckpoint(join(root, 'step-00000030'))).rejects.toThrow(/step 20.*says 30/);
    await rm(join(root, 'step-00000030', 'manifest.json'));
    await expect(verifyCheckpoint(join(root, 'step-00000030'))).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_MISSING',
    });
  });

  test('reports a damaged checkpoint and uses the one before it', async () => {
    const { dir, root } = runFolder();
    await saveCheckpoint(root, contentOf(10, 1));
    const newer = await saveCheckpoint(root, contentOf(20, 2));
    expect((await resolveResume('auto', dir))?.path).toBe(newer.path);
    await truncate(join(newer.path, 'model.safetensors'), 100);
    const found = await resolveResume('auto', dir);
    expect(found?.path).toBe(join(root, 'step-00000010'));
    expect(found?.manifest.step).toBe(10);
    expect(found?.damaged).toEqual([
      { path: newer.path, reason: expect.stringContaining('model.safetensors: holds 100 bytes') },
    ]);
  });

  test('does not take a run whose checkpoints are all damaged for a new one', async () => {
    const { dir, root } = runFolder();
    const { path } = await saveCheckpoint(root, contentOf(10, 1));
    await truncate(join(path, 'manifest.json'), 10);
    await expect(resolveResume('auto', dir)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_DAMAGED',
      hint: expect.stringContaining('another --run-dir'),
    });
    expect(await resolveResume('never', dir)).toBeNull();
  });
});

describe('resuming', () => {
  test('finds nothing in a new run, and what a path means', async () => {
    const { dir, root } = runFolder();
    expect(await resolveResume('auto', dir)).toBeNull();
    await expect(resolveCheckpoint(dir)).rejects.toMatchObject({ code: 'ERR_CHECKPOINT_MISSING' });
    await expect(resolveCheckpoint(join(dir, 'none'))).rejects.toThrow(/none does not exist$/);
    await writeFile(join(dir, 'config.yaml'), 'checkpoint: {every: 200}\n');
    await writeFile(join(dir, 'ledger.jsonl'), '{"step":1,"slots":[[0]]}\n{"step":2,"slots":[[1]]}\n{"st');
    await expect(resolveCheckpoint(dir)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_MISSING',
      message: `${dir} is a run at step 2 that has not saved a checkpoint yet`,
      hint: 'The first one is written at step 200, or when the run ends or is stopped',
    });
    const { path } = await saveCheckpoint(root, contentOf(10, 1));
    await saveCheckpoint(root, contentOf(12, 1));
    expect((await resolveCheckpoint(dir)).manifest.step).toBe(12);
    expect((await resolveCheckpoint(root)).manifest.step).toBe(12);
    expect((await resolveResume(path, dir))?.manifest.step).toBe(10);
    expect((await resolveResume('auto', dir))?.manifest.step).toBe(12);
    await rm(join(path, 'manifest.json'));
    await expect(resolveCheckpoint(path)).rejects.toMatchObject({ code: 'ERR_CHECKPOINT_MISSING' });
  });

  test('refuses another text encoder, naming both', async () => {
    const { dir, root } = runFolder();
    const names = { clip_l: 'openai/clip-l', clip_g: 'laion/clip-g', t5: 'google/t5' };
    const content = contentOf(10, 1);
    await saveCheckpoint(root, { ...content, metadata: { ...content.metadata, encoders: names } });
    const found = (await resolveResume('auto', dir))!;
    checkEncoders(found, names);
    checkEncoders(found, null);
    expect(() => checkEncoders(found, { ...names, t5: 'google/umt5' })).toThrow(
      'another text encoder: its t5 is google/t5; that of data.path is google/umt5',
    );
  });

  test('a word that is no path: the words that --resume takes', async () => {
    await expect(resolveResume('aut', temporaryFolder())).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_MISSING',
      message: expect.stringMatching(/^--resume aut: there is nothing at \/.*\/aut$/),
      hint: '--resume takes auto, never, or the path of a checkpoint or a run; did you mean auto',
    });
  });

  test('says which arithmetic differs', () => {
    const here = { isa: 'avx2', kernels: '3', precision: 'fp32' };
    expect(otherArithmetic({ versions: { ...here, node: 'v20' } }, here)).toBeNull();
    expect(otherArithmetic({ versions: {} }, here)).toBeNull();
    expect(otherArithmetic({ versions: { ...here, isa: 'avx512' } }, here)).toContain(
      '(isa avx512 there, avx2 here)',
    );
    expect(otherArithmetic({ versions: { ...here, kernels: '2' } }, here)).toContain(
      '(kernels 2 there, 3 here)',
    );
  });

  test('a checkpoint written with oneDNN can be resumed, with a warning that bits differ', async () => {
    const { dir, root } = runFolder();
    const content = contentOf(10, 1);
    const versions = {
      orchestrator: '0.1.0',
      device: 'cpu',
      isa: 'avx2',
      onednn: '2.6.3',
      precision: 'fp32',
    };
    await saveCheckpoint(root, { ...content, metadata: { ...content.metadata, versions } });
    const found = (await resolveResume('auto', dir))!;
    const targets = emptyTargets(content);
    await loadCheckpoint(found.path, targets);
    expectState(targets.flat, content.flat);
    const here = { device: 'cpu', isa: 'avx2', kernels: '3', precision: 'fp32' };
    expect(otherArithmetic(found.manifest, here)).toBe(
      'the checkpoint was written with other arithmetic (kernels with oneDNN 2.6.3 there, 3 here): ' +
        'the run can be resumed, but not bit for bit',
    );
    const gpu = { device: 'NVIDIA H200', libraries: 'CUDA 13.0', precision: 'fp32' };
    expect(otherArithmetic(found.manifest, gpu)).toContain('(device cpu there, NVIDIA H200 here)');
  });

  test('refuses a format of another version', async () => {
    const { root } = runFolder();
    const { path } = await saveCheckpoint(root, contentOf(10, 1));
    const manifest = join(path, 'manifest.json');
    const { createHash } = await import('node:crypto');
    const { checksum: _, ...body } = JSON.parse(await readFile(manifest, 'utf8'));
    body.formatVersion = 3;
    const checksum = createHash('sha256').update(JSON.stringify(body)).digest('hex');
    await writeFile(manifest, `${JSON.stringify({ ...body, checksum }, null, 2)}\n`);
    await expect(verifyCheckpoint(path)).rejects.toMatchObject({
      code: 'ERR_CHECKPOINT_MISMATCH',
      message: expect.stringContaining(
        'version 3; this program reads orchestrator-checkpoint versions 1 and 2',
      ),
    });
  });
});
