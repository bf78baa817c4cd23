import { describe, expect, test } from 'vitest';
import { keyPaths, schemaAt, unwrapNull } from '../../../src/config/describe.js';
import { loadConfig, loadConfigWithSources } from '../../../src/config/load.js';
import {
  changedKeys,
  describeChange,
  keepUnset,
  RESUME_RULES,
  resumeRule,
  storedConfig,
} from '../../../src/config/resume.js';
import { MINIMAL, yaml } from '../../support/config.js';

const load = (...sets: string[]) => loadConfig(yaml(MINIMAL), sets, {});

describe('the table of what may change at resume', () => {
  test('has a rule for every key of the schema, and no other', () => {
    const paths = keyPaths();
    const values = paths.filter((path) => unwrapNull(schemaAt(path)!).node.properties === undefined);
    expect(values.map((path) => path.join('.')).filter((key) => resumeRule(key) === undefined)).toEqual([]);
    const known = new Set(paths.map((path) => path.join('.')));
    expect(Object.keys(RESUME_RULES).filter((key) => !known.has(key))).toEqual([]);
  });

  test.each([
    ['batch.global=128', 'batch.global was 64 at step 6 and is 128 now', 'refused'],
    ['batch.accumulate=2', 'batch.accumulate was 1 at step 6 and is 2 now', 'refused'],
    ['seed=3', 'seed was 0 at step 6 and is 3 now', 'refused'],
    [
      'objective.formulation=eps/linear',
      'objective.formulation was "rf/lognorm(0,1)" at step 6 and is "eps/linear" now',
      'refused',
    ],
    [
      'optimizer.betas=[0.8, 0.9]',
      'optimizer.betas was [0.9,0.999] at step 6 and is [0.8,0.9] now',
      'applies',
    ],
    ['data.path=e', 'data.path was "d" at step 6 and is "e" now', 'same data'],
    ['init=w', 'init was null at step 6 and is "w" now', 'ignored'],
    ['model.depth=5', 'model.depth was 4 at step 6 and is 5 now', 'refused'],
    ['data.latent_shape=[16, 8, 8]', 'data.latent_shape was null at step 6 and is [16,8,8] now', 'same data'],
  ])('%s', (set, text, change) => {
    const [found, ...others] = changedKeys(load(), load(set));
    expect(others).toEqual([]);
    expect(found?.rule.change).toBe(change);
    expect(describeChange(found!, 6)).toBe(text);
  });

  test('keys that change time and memory alone say so; activation_checkpointing names its exception', () => {
    const why = (set: string) => changedKeys(load(), load(set))[0]!.rule.why;
    for (const set of ['threads=2', 'threads_per_slot=2', 'exchange=grpc'])
      expect(why(set)).toBe('time and memory change, the result does not');
    // GPUs that fuse GELU recompute it from rounded values.
    expect(why('activation_checkpointing=norms')).toMatch(/the result does not, except .*norms on a GPU/);
  });

  test('an average may be given up, not begun; one change, not one for each of its keys', () => {
    const without = load('ema=null', 'validation.weights=[master]');
    const off = changedKeys(load('validation.weights=[master]'), without);
    expect(off.map(({ key, rule }) => [key, rule.change])).toEqual([['ema', 'applies']]);
    const on = changedKeys(without, load('validation.weights=[master]'));
    expect(on.map(({ key, rule }) => [key, rule.change])).toEqual([['ema', 'refused']]);
  });

  test('keys of the model that are not set stay as they are in the run; others follow their default', () => {
    const stored = load('model.depth=7', 'model.hidden=320', 'optimizer.lr=0.5');
    const plain = keepUnset(loadConfigWithSources(yaml(MINIMAL), ['model.hidden=64'], {}), stored).config;
    expect(plain.model).toEqual({ ...stored.model, hidden: 64 });
    expect(plain.optimizer.lr).toBe(load().optimizer.lr);
  });

  test('rules between keys hold for what is kept, too', () => {
    const stored = load('model.depth=2');
    const loaded = loadConfigWithSources(yaml(MINIMAL), ['model.dual_attention=[3]'], {});
    expect(() => keepUnset(loaded, stored)).toThrow(
      expect.objectContaining({
        code: 'ERR_CONFIG',
        message: expect.stringContaining('expected indices below model.depth (2), received 3'),
      }),
    );
  });
});

test('with init, rules on keys of the model that its weights may give wait for them', () => {
  const config = ['init=w', 'freeze=["joint_blocks.20.*"]'];
  expect(load(...config).freeze).toEqual(['joint_blocks.20.*']);
  expect(() => load('freeze=["joint_blocks.20.*"]')).toThrow(/freeze/);
});

test.each([
  [{ formulation: 'rf', density: 'lognorm(0, 1)', shift: 3 }, 'rf/lognorm(0,1)'],
  [{ formulation: 'rf', density: 'uniform', shift: 3 }, 'rf'],
  [{ formulation: 'rf/mode(1.29)', shift: 3 }, 'rf/mode(1.29)'],
])('a checkpoint of a version with objective.density: %j', (objective, formulation) => {
  const stored = storedConfig({ name: 'x', data: { path: 'd' }, objective }, 'the manifest');
  expect(stored.objective).toEqual({ formulation, shift: 3 });
});

describe('a checkpoint of a version without ema.warmup', () => {
  const stored = (ema: unknown) => storedConfig({ name: 'x', data: { path: 'd' }, ema }, 'the manifest');

  test('was trained without warm-up; one with the key means what it says', () => {
    expect(stored({ decay: 0.9, every: 1 }).ema).toEqual({ decay: 0.9, every: 1, warmup: false });
    expect(stored({ decay: 0.9, every: 1, warmup: true }).ema?.warmup).toBe(true);
    expect(stored(null).ema).toBeNull();
  });

  const resumed = (text: string, flags: string[], before: unknown) =>
    keepUnset(loadConfigWithSources(yaml(`${MINIMAL}${text}`), flags, {}), stored(before)).config.ema;

  test('goes on without, unless the user sets the key', () => {
    const before = { decay: 0.9, every: 1 };
    expect(resumed('', [], before)).toEqual({ decay: 0.999, every: 1, warmup: false });
    expect(resumed('ema: {warmup: true}\n', [], before)?.warmup).toBe(true);
    expect(resumed('', ['ema.warmup=true'], before)?.warmup).toBe(true);
    expect(resumed('ema: null\n', [], before)).toBeNull();
  });

  test('goes on without also from the checkpoints that this version writes', () => {
    expect(resumed('', [], { decay: 0.9, every: 1, warmup: false })?.warmup).toBe(false);
    expect(resumed('', [], { decay: 0.9, every: 1, warmup: true })?.warmup).toBe(true);
    expect(resumed('', [], null)?.warmup).toBe(true);
  });
});
