import { afterEach, describe, expect, test, vi } from 'vitest';
import { adoptIsa, askedIsa, commonIsas, offeredIsas, possibleIsas } from '../../../src/native/isa.js';
import { native } from '../../../src/native/load.js';
import { isaOfRun, lacksIsa } from '../../../src/rule/arithmetic.js';
import { PLAINEST_ISA } from '../../support/plainest-isa.js';

const SETS = ['avx512', 'avx2', 'generic'];
/** What the addon computes with. */
let used = '';
const addon = {
  instructionSets: () => SETS,
  useInstructionSet: (isa: string) => {
    used = isa;
  },
};

afterEach(() => vi.unstubAllEnvs());

test('the addon names the instruction sets of this processor, the best first', () => {
  expect(native().instructionSets().at(-1)).toBe(PLAINEST_ISA);
  expect(native().instructionSets()).toContain(native().host().isa);
});

test('the best one that all processors have, if there is one', () => {
  expect(commonIsas([SETS, ['avx2', 'generic']])).toEqual(['avx2', 'generic']);
  expect(commonIsas([SETS, ['neon']])).toEqual([]);
});

describe('the instruction set of a run', () => {
  const written = (versions: Record<string, string>) => ({ versions });

  test('is that of its checkpoint, unless the user asks for another', () => {
    expect(isaOfRun({ device: 'cpu' }, written({ device: 'cpu', isa: 'avx2' }), null)).toBe('avx2');
    expect(isaOfRun({ device: 'cpu' }, written({ device: 'cpu', isa: 'avx2' }), 'generic')).toBe('generic');
  });

  test('is not fixed at the start of a run, nor on GPUs, nor after them', () => {
    expect(isaOfRun({ device: 'cpu' }, null, null)).toBeNull();
    expect(isaOfRun({ device: 'cuda' }, written({ device: 'cpu', isa: 'avx2' }), null)).toBeNull();
    expect(isaOfRun({ device: 'cpu' }, written({ device: 'NVIDIA H200' }), null)).toBeNull();
    expect(isaOfRun({ device: 'cpu' }, written({}), null)).toBeNull();
  });

  test('is taken on by a processor that has more, and by none that was told another', () => {
    vi.stubEnv('ORCHESTRATOR_ISA', 'generic');
    adoptIsa(addon, 'avx2');
    expect(askedIsa()).toBe('generic');
    expect(possibleIsas(addon)).toEqual(['generic']);
    expect(offeredIsas(addon)).toEqual({ instructionSets: SETS, onlyIsa: 'generic' });
    vi.stubEnv('ORCHESTRATOR_ISA', '');
    for (const isa of [null, 'avx512', 'neon']) {
      adoptIsa(addon, isa);
      expect(askedIsa()).toBeNull();
    }
    expect(used).toBe('');
    for (const isa of ['avx2', 'generic', 'avx512', 'avx2']) {
      adoptIsa(addon, isa);
      expect([askedIsa(), used]).toEqual([isa, isa]);
      expect(possibleIsas(addon)).toEqual(SETS);
      expect(offeredIsas(addon)).toEqual({ instructionSets: SETS, onlyIsa: '' });
    }
  });

  test('and the way to go on with another are named where a machine lacks it', () => {
    const { message, hint } = lacksIsa('ERR_ISA', 'this machine', 'avx512', ['avx2', 'generic']);
    expect(message).toContain('this machine lacks the instruction set avx512,');
    expect(hint).toContain('ORCHESTRATOR_ISA=avx2 before the same command of launch');
  });
});
