import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { canonicalName } from '../../../src/objective/names.js';
import { STUDY } from '../../../src/objective/study.js';
import { chosenVariants, expand, variantsOf } from '../../../src/study/expand.js';
import { CLAIMS, PUBLISHED_RANKS, PUBLISHED_SCORES } from '../../../src/study/published.js';
import { quickened } from '../../../src/study/quick.js';
import { loadStudy, parseStudy } from '../../../src/study/spec.js';
import { temporaryFolder } from '../../support/folders.js';

const BASE = 'name: small\nconfig: shapes-tiny.yaml\ndata: {scenes: {path: data}}\n';
const VARIED = `${BASE}vary: {optimizer.lr: [1.0e-3, 2.0e-3]}\n`;

/** The study of a text, beside the example configurations. */
const study = (text: string) => ({ path: 'configs/small.yaml', text, spec: parseStudy(text, 'small.yaml') });
const refused = (text: string) => {
  try {
    const loaded = study(text);
    expand(loaded, variantsOf(loaded));
  } catch (error) {
    return (error as Error).message;
  }
  return 'accepted';
};

describe('the file of a study', () => {
  test('has defaults', () => {
    expect(study(VARIED).spec).toMatchObject({ seeds: [0], set: {}, evaluation: null, quick: null });
    const { evaluation } = study(`${VARIED}evaluation: {samplers: [{steps: 5, guidance: 1}]}\n`).spec;
    expect(evaluation).toMatchObject({ pictures: 96, weights: ['ema', 'master'], shown: 0 });
    expect(evaluation!.samplers[0]).toMatchObject({ solver: 'euler', schedule: 'uniform' });
  });

  test.each([
    [
      'an unknown key',
      `${VARIED}seed: [1]\n`,
      /^small\.yaml:5:7: seed: unknown key; expected one of .*; did you mean seeds$/,
    ],
    [
      'a wrong type',
      `${VARIED}seeds: [x]\n`,
      /^small\.yaml:5:9: seeds\[0\]: expected an integer of at least 0, received "x"$/,
    ],
    [
      'a missing key',
      'name: x\nvary: {seed: [1]}\n',
      /2 problems\n.*config: expected a non-empty string, received nothing/,
    ],
    ['what is no YAML', `${VARIED}seeds: [\n`, /^small\.yaml:5:8: not readable as YAML/],
    ['no variants', BASE, /^small\.yaml: variants: expected variants, or values in vary; received neither$/],
    [
      'a sampler that is not there',
      `${VARIED}evaluation: {samplers: [{steps: 5, guidance: 1}], shown: 1}\n`,
      /evaluation\.shown: expected a sampler from 0 to 0, received 1$/,
    ],
    [
      'a key of the configuration that is not there',
      `${BASE}vary: {optimizer.lrs: [1]}\n`,
      /^configs\/small\.yaml: variant "1": .*optimizer\.lrs: unknown key/,
    ],
    [
      'a formulation that is not there',
      `${BASE}variants: {odd: {objective.formulation: rf/odd}}\n`,
      /^configs\/small\.yaml: variant "odd": .*objective\.formulation: expected rf, /,
    ],
    [
      'no validation',
      `${VARIED}set: {validation.every: 0}\n`,
      /expected a validation, because losses are compared$/,
    ],
    [
      'scores without an EMA, whose loss says at which step',
      `${VARIED}set: {ema: null}\nevaluation: {samplers: [{steps: 5, guidance: 1}]}\n`,
      /checkpoint\.keep_best: expected false, because the EMA is not validated/,
    ],
    [
      'a sampler that a variant does not have',
      `${BASE}vary: {objective.formulation: [edm/rf, rf]}\nevaluation: {samplers: [{steps: 5, guidance: 1, schedule: karras}]}\n`,
      /^configs\/small\.yaml: variant "rf": --schedule karras: this formulation has no path in sigma/,
    ],
    [
      'two variants of one folder',
      `${BASE}variants: {a/b: {schedule.steps: 10}, a-b: {schedule.steps: 20}}\n`,
      /would have one folder, scenes\.a-b\.seed-0$/,
    ],
  ])('refuses %s', (_, text, message) => expect(refused(text)).toMatch(message));
});

test.each(['name: x', 'seed: 1', 'data.path: x'])(
  '%s, which a study sets for each run, is refused',
  (key) => {
    const name = key.split(':')[0];
    const message = `small.yaml: ${name} is set by the study, from `;
    expect(refused(`${VARIED}set: {${key}}\n`)).toContain(message);
    expect(refused(`${BASE}variants: {one: {${key}}}\n`)).toContain(message);
    expect(refused(`${VARIED}set: {data: {path: x}}\n`)).toContain('data.path is set by the study, from ');
    expect(refused(`${BASE}vary: {${name}: [1, 2]}\n`)).toContain(message);
    expect(refused(`${VARIED}quick: {set: {${key}}}\n`)).toContain(message);
    expect(refused(`${BASE}vary: {data: [{path: x}]}\n`)).toContain('data.path is set by the study, from ');
  },
);

test('a name that a comma has cut is told to be put in quotes', () => {
  const loaded = study(`${BASE}vary: {objective.formulation: [rf/lognorm(0,1), rf]}\n`);
  expect(() => expand(loaded, variantsOf(loaded))).toThrow(
    expect.objectContaining({ code: 'ERR_CONFIG', hint: expect.stringContaining('in quotes') }),
  );
});

describe('variants and runs', () => {
  test('are every combination of values, and those that are named', () => {
    const two = study(
      `${BASE}vary: {optimizer.lr: [0.1, 0.2], model.depth: [1, 2]}\nvariants: {wide: {model.hidden: 128}}\n`,
    );
    expect(variantsOf(two).map(({ name }) => name)).toEqual([
      'lr=0.1, depth=1',
      'lr=0.1, depth=2',
      'lr=0.2, depth=1',
      'lr=0.2, depth=2',
      'wide',
    ]);
    const runs = expand(two, variantsOf(two));
    expect(runs.map(({ config }) => [config.optimizer.lr, config.model.depth])).toEqual([
      [0.1, 1],
      [0.1, 2],
      [0.2, 1],
      [0.2, 2],
      [1e-3, 2],
    ]);
    expect(runs[1]!.name).toBe('scenes.lr-0.1-depth-2.seed-0');
    expect(new Set(runs.map(({ hash }) => hash)).size).toBe(5);
  });

  test('each is trained on each data set with each seed, all of them with the first seed first', () => {
    const several = study(
      `${VARIED.replace('{scenes: {path: data}}', '{a: {path: x}, b: {path: y}}')}seeds: [3, 4]\n`,
    );
    const runs = expand(several, variantsOf(several));
    expect(
      runs.slice(0, 2).map(({ data, seed, config }) => [data, seed, config.data.path, config.seed]),
    ).toEqual([
      ['a', 3, 'x', 3],
      ['b', 3, 'y', 3],
    ]);
    const half = runs.length / 2;
    expect(runs.map(({ seed }) => seed)).toEqual(runs.map((_, i) => (i < half ? 3 : 4)));
    expect(runs.slice(half).map(({ variant }) => variant)).toEqual(
      runs.slice(0, half).map(({ variant }) => variant),
    );
    expect(runs.every(({ name, config }) => config.name === name)).toBe(true);
  });

  test('what changes no result changes no hash', () => {
    const hashes = (more: string) => {
      const loaded = study(VARIED + more);
      return expand(loaded, variantsOf(loaded)).map(({ hash }) => hash);
    };
    expect(hashes('set: {threads: 3, telemetry.metrics_port: null, exchange: grpc}\n')).toEqual(hashes(''));
    expect(hashes('set: {schedule.steps: 21}\n')).not.toEqual(hashes(''));
  });

  test('are chosen by name', () => {
    const variants = variantsOf(study(VARIED));
    expect(chosenVariants(variants, ['0.002']).map(({ name }) => name)).toEqual(['0.002']);
    expect(chosenVariants(variants, [])).toHaveLength(2);
    expect(() => chosenVariants(variants, ['0.003'])).toThrow(/no variant "0\.003"; did you mean 0\.00[12]$/);
  });

  test('--quick changes what the file says, under another name', () => {
    const quick =
      'quick: {only: ["0.002"], set: {schedule.steps: 4, schedule.warmup: 1}, seeds: [5], pictures: 8}\n';
    const loaded = study(
      `${VARIED}set: {schedule.steps: 30}\nevaluation: {samplers: [{steps: 5, guidance: 1}]}\n${quick}`,
    );
    const { study: small, only } = quickened(loaded);
    expect(only).toEqual(['0.002']);
    expect(small.spec).toMatchObject({ name: 'small-quick', seeds: [5], evaluation: { pictures: 8 } });
    expect(expand(small, variantsOf(small))[0]!.config.schedule).toMatchObject({ steps: 4, warmup: 1 });
    expect(() => quickened(study(VARIED))).toThrow(/has no "quick"/);
  });
});

describe('configs/studies', () => {
  test('the first stage has the 61 formulations of the paper, the second those of Table 1 and eps/cos', () => {
    const names = (file: string) => {
      const loaded = loadStudy(file);
      const runs = expand(loaded, variantsOf(loaded));
      return { runs, variants: variantsOf(loaded).map(({ name }) => name) };
    };
    const first = names('configs/studies/formulations.yaml');
    expect([...first.variants].sort()).toEqual(STUDY.map(({ name }) => name).sort());
    expect(first.runs).toHaveLength(122);
    const second = names('configs/studies/formulations-final.yaml');
    expect([...second.variants].sort()).toEqual([...Object.keys(PUBLISHED_RANKS), 'eps/cos'].sort());
    expect(second.runs).toHaveLength(17 * 2 * 3);
    for (const { config } of [...first.runs, ...second.runs]) {
      expect(config.checkpoint.keep_best).toBe(true);
      expect(config.schedule.steps % config.validation.every).toBe(0);
    }
    expect(second.runs[0]!.config.schedule.steps).toBe(2600);
    const { study: quick, only } = quickened(loadStudy('configs/studies/formulations.yaml'));
    expect(chosenVariants(variantsOf(quick), only)).toHaveLength(4);
  });

  test('what was published is of formulations of the study', () => {
    const studied = STUDY.map(({ name }) => name);
    const named = [
      ...Object.keys(PUBLISHED_RANKS),
      ...Object.keys(PUBLISHED_SCORES),
      ...CLAIMS.flatMap(({ needs }) => needs),
    ];
    for (const name of named) {
      expect(studied).toContain(name);
      expect(canonicalName(name)).toBe(name);
    }
    // The paper counts 24 settings: 4 of 5 steps and 12 of 50, whose ranks are multiples of 1/4 and of 1/12.
    for (const { all, fewest, most } of Object.values(PUBLISHED_RANKS)) {
      for (const [rank, count] of [
        [all, 24],
        [fewest, 4],
        [most, 12],
      ] as const) {
        expect(Math.abs(rank * count - Math.round(rank * count))).toBeLessThan(0.13);
      }
    }
  });

  test('a file on the disk is read from there', () => {
    const path = join(temporaryFolder(), 'study.yaml');
    writeFileSync(path, VARIED);
    expect(loadStudy(path).text).toBe(readFileSync(path, 'utf8'));
    expect(() => loadStudy(`${path}.none`)).toThrow(/Cannot read .*study\.yaml\.none: /);
  });
});
