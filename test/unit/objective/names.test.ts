import { describe, expect, test } from 'vitest';
import {
  canonicalName,
  FORMULATION_FORMS,
  FORMULATION_PATTERN,
  formulationOf,
  formulationProblem,
  nameWithDensity,
} from '../../../src/objective/names.js';
import { STUDY } from '../../../src/objective/study.js';

describe('names of formulations', () => {
  test.each([
    ['rf/lognorm(0.50,0.60)', 'rf/lognorm(0.5,0.6)'],
    ['rf/lognorm( +.5 , 60e-2 )', 'rf/lognorm(0.5,0.6)'],
    ['rf/mode(1.29)', 'rf/mode(1.29)'],
    ['edm(-1.20, 1.20)', 'edm(-1.2,1.2)'],
    ['edm/rf(matched)', 'edm/rf(matched)'],
    ['rf', 'rf'],
  ])('%s is %s', (written, canonical) => {
    expect(canonicalName(written)).toBe(canonical);
    expect(formulationOf(written).name).toBe(canonical);
    expect(FORMULATION_PATTERN.test(written)).toBe(true);
  });

  test('have the parameters that are written, and not those of the study', () => {
    const density = (name: string) => formulationOf(name).density.pdf(0.3);
    expect(density('rf/mode(1.29)')).not.toBe(density('rf/mode(1.292)'));
    expect(formulationOf('edm(-1.2,0.6)').path.level(0.5)).toBeCloseTo(Math.exp(-1.2), 12);
  });

  test.each(['rf/lognorm', 'rf/lognorm(1)', 'rf/mode(1, 2)', 'rf()', 'toString', 'rf/mode(x)', 'v/edm', ''])(
    '"%s" is refused',
    (name) => {
      expect(canonicalName(name)).toBe(name);
      expect(FORMULATION_PATTERN.test(name)).toBe(false);
      const refusal = expect.objectContaining({
        code: 'ERR_CONFIG',
        message: expect.stringContaining(
          `objective.formulation: expected ${FORMULATION_FORMS}, received "${name}"`,
        ),
      });
      expect(() => formulationOf(name)).toThrow(refusal);
    },
  );

  test('have parameters in their range', () => {
    expect(FORMULATION_FORMS).toMatch(/^rf, rf\/lognorm\(m,s\), rf\/mode\(s\), .* v\/linear or eps\/ddpm$/);
    expect(formulationProblem('rf/lognorm(-3, 0)')).toBe('s of rf/lognorm(m,s) to be greater than 0');
    expect(formulationProblem('rf/mode(-1.01)')).toBe('s of rf/mode(s) to be from -1 to 1.7519');
    expect(formulationProblem('edm(0,0)')).toBe('P_s of edm(P_m,P_s) to be greater than 0');
    expect(formulationProblem('edm(1e999,1)')).toBe('P_m of edm(P_m,P_s) to be a finite number');
    expect(() => formulationOf('edm(0,0)')).toThrow(/expected P_s of .* received "edm\(0,0\)"$/);
    for (const { name } of STUDY) expect(formulationProblem(name)).toBeNull();
  });

  test('of earlier versions had the density apart', () => {
    expect(nameWithDensity('uniform')).toBe('rf');
    expect(nameWithDensity('lognorm(0, 1)')).toBe('rf/lognorm(0,1)');
    expect(nameWithDensity('cosmap')).toBe('rf/cosmap');
  });
});

describe('the study', () => {
  test('has 61 formulations, each once, under the name and the label of the paper', () => {
    expect(STUDY).toHaveLength(61);
    expect(new Set(STUDY.map(({ name }) => formulationOf(name).name)).size).toBe(61);
    expect(STUDY.filter(({ name }) => name.startsWith('rf/lognorm'))).toHaveLength(30);
    expect(STUDY.filter(({ name }) => name.startsWith('edm('))).toHaveLength(15);
    expect(STUDY).toContainEqual({ name: 'rf/mode(1.292)', label: 'rf/mode(1.29)' });
    expect(STUDY).toContainEqual({ name: 'rf/lognorm(0.5,0.6)', label: 'rf/lognorm(0.50,0.60)' });
    expect(STUDY).toContainEqual({ name: 'v/cos', label: 'v/cos' });
  });
});
