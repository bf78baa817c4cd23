import { describe, expect, test } from 'vitest';
import { freezeProblem, frozenBounds, frozenNames } from '../../../src/model/freeze.js';
import type { EngineLayout } from '../../../src/native/contract.js';
import { MINIMAL, problems } from '../../support/config.js';

const NAMES = ['a.0.weight', 'a.0.bias', 'a.10.weight', 'b.weight'];

describe('patterns', () => {
  test('match whole names, with * for any characters and nothing else special', () => {
    expect([...frozenNames(NAMES, ['a.*.weight', 'b.weight'])]).toEqual([
      'a.0.weight',
      'a.10.weight',
      'b.weight',
    ]);
    expect([...frozenNames(NAMES, ['a.0.*'])]).toEqual(['a.0.weight', 'a.0.bias']);
    expect(frozenNames(NAMES, ['a.0']).size).toBe(0);
    expect(frozenNames(NAMES, ['a.?.bias', 'a|b', '.*.bias']).size).toBe(0);
  });

  test('must match something, and not everything', () => {
    expect(freezeProblem(NAMES, ['b.weight', 'b.wieght'])).toMatch(
      /received b\.wieght, which matches none; did you mean b\.weight/,
    );
    expect(freezeProblem(NAMES, ['*'])).toMatch(/match all/);
    expect(freezeProblem(NAMES, ['*.weight'])).toBeNull();
  });

  test('become ranges of the flat arrays', () => {
    const tensors = NAMES.map((name, i) => ({ name, shape: [5], offset: 16 * (3 - i), length: 5 }));
    const bounds = frozenBounds({ tensors } as unknown as EngineLayout, ['a.*']);
    expect([...bounds]).toEqual([16, 21, 32, 37, 48, 53]);
  });

  test('are held against the model when the configuration is read', () => {
    const wrong = `${MINIMAL}freeze: [joint_blocks.*, joint_blocks.4.*]\n`;
    expect(problems(wrong)[0]).toMatch(
      /^FILE:3:\d+: freeze: expected patterns of parameter names .* received joint_blocks\.4\.\*/,
    );
    expect(problems(wrong, ['model.depth=5', 'schedule.warmup=-1'])).toHaveLength(1);
  });
});
