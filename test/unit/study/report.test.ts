/** The report of a study that was run: four formulations, two data sets, 24 pictures, 20 resamples. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { canonicalHash } from '../../../src/files/hash.js';
import { estimateOf } from '../../../src/study/ranking.js';
import { asReported, writeReport } from '../../../src/study/report.js';
import type { FoundRun, Results } from '../../../src/study/result-types.js';
import { temporaryFolder } from '../../support/folders.js';

const recorded = JSON.parse(readFileSync('test/fixtures/studies/formulations-quick.json', 'utf8'));
interface Recorded {
  scores: object;
  validations: object[];
}
const WHEN = { date: '2026-11-26', hardware: 'a machine' };

/** The folder of the recorded study, without the runs that `without` names. */
function folderOf(without: readonly string[] = []): string {
  const dir = temporaryFolder();
  const { study, journal, references, runs } = recorded;
  writeFileSync(join(dir, 'study.json'), JSON.stringify(study));
  writeFileSync(
    join(dir, 'journal.jsonl'),
    journal.map((line: object) => `${JSON.stringify(line)}\n`).join(''),
  );
  mkdirSync(join(dir, 'references'));
  for (const [name, reference] of Object.entries(references)) {
    writeFileSync(join(dir, 'references', `${name}.json`), JSON.stringify(reference));
  }
  for (const [name, { scores, validations }] of Object.entries<Recorded>(runs)) {
    if (without.includes(name)) continue;
    mkdirSync(join(dir, name));
    const evaluation = canonicalHash(study.evaluation);
    writeFileSync(join(dir, name, 'scores.json'), JSON.stringify({ ...scores, evaluation }));
    const lines = validations.map((line) => `${JSON.stringify(line)}\n`);
    writeFileSync(join(dir, name, 'metrics.jsonl'), lines.join(''));
  }
  return dir;
}

async function reported(dir: string) {
  const out = join(dir, 'out');
  const counts = await writeReport(dir, out, WHEN);
  const text = (name: string) => readFileSync(join(out, name), 'utf8');
  return { counts, text, markdown: text('report.md'), results: JSON.parse(text('report.json')) as Results };
}

/** The cells of the first table after a heading, by the name in the first column. */
function tableAfter(markdown: string, heading: string): Map<string, string[]> {
  const lines = markdown.slice(markdown.indexOf(heading)).split('\n');
  const start = lines.findIndex((line) => line.startsWith('|'));
  const rows = lines.slice(
    start + 2,
    lines.findIndex((line, i) => i > start && !line.startsWith('|')),
  );
  return new Map(
    rows.map((row) => {
      const [, name, ...cells] = row.split('|').map((cell) => cell.trim());
      return [name!, cells.slice(0, -1)];
    }),
  );
}

describe('the report of a recorded study', () => {
  test('is the same whenever it is written', async () => {
    const [first, second] = [await reported(folderOf()), await reported(folderOf())];
    for (const name of ['report.md', 'report.json', 'ranks.svg', 'steps.svg', 'scatter.svg', 'curves.svg']) {
      expect(second.text(name)).toBe(first.text(name));
      expect(first.text(name)).not.toMatch(/NaN|Infinity|undefined/);
    }
    expect(first.counts).toEqual({ runs: 8, complete: 8 });
  });

  test('has its numbers under names in snake_case', async () => {
    const { text, results } = await reported(folderOf());
    const json = text('report.json');
    expect([...json.matchAll(/"([a-z]+[A-Z]\w*)":/g)].map(([, key]) => key)).toEqual([]);
    const { core_seconds } = JSON.parse(json) as { core_seconds: number };
    expect(core_seconds).toBeGreaterThan(0);
    expect(results.variants[0]!.runs[0]).toHaveProperty('training_seconds');
  });

  test('has data sets under their own names', () => {
    const results = { losses: { shapesLarge: { epsilonError: 0.123456789 } } };
    expect(JSON.stringify(results, asReported)).toBe('{"losses":{"shapesLarge":{"epsilon_error":0.123457}}}');
  });

  test('has the ranks that peeling fronts gives, beside the published ones', async () => {
    const { results, markdown } = await reported(folderOf());
    const ranks = tableAfter(markdown, '## Ranks');
    expect(ranks.size).toBe(4);
    const settings = results.variants[0]!.settings.length;
    expect(settings).toBe(24);
    for (const variant of results.variants) {
      const sum = variant.settings.reduce((total, { followed, frechet }, i) => {
        // The longest chain of variants, each better than the next, that ends here.
        const points = results.variants.map((other) => ({
          f: other.settings[i]!.followed.mean,
          d: other.settings[i]!.frechet.mean,
        }));
        const depth = (f: number, d: number): number =>
          1 +
          Math.max(
            0,
            ...points
              .filter((one) => one.f >= f && one.d <= d && (one.f > f || one.d < d))
              .map((one) => depth(one.f, one.d)),
          );
        return total + depth(followed.mean, frechet.mean);
      }, 0);
      expect(variant.ranks!.all.mean).toBeCloseTo(sum / settings, 4);
      const cells = ranks.get(variant.name)!;
      expect(cells[0]).toContain((sum / settings).toFixed(2));
      expect(cells.slice(3)).toEqual(
        [variant.published.ranks!.all, variant.published.ranks!.fewest, variant.published.ranks!.most].map(
          (rank) => rank.toFixed(2),
        ),
      );
    }
    expect(ranks.get('rf/lognorm(0,1)')!.slice(3)).toEqual(['1.54', '1.25', '1.50']);
    expect(tableAfter(markdown, '## Scores').get('edm(-1.2,1.2)')!.slice(4)).toEqual([
      '0.236',
      '63.12',
      '0.200',
      '116.60',
    ]);
  });

  test('judges what the paper found, where the formulations for it were run', async () => {
    const { results, markdown } = await reported(folderOf());
    const findings = tableAfter(markdown, '## What the paper found');
    const { all: ours } = results.variants.find(({ name }) => name === 'rf/lognorm(0,1)')!.ranks!;
    const { all: plain } = results.variants.find(({ name }) => name === 'rf')!.ranks!;
    const claim = 'rf/lognorm(0,1) ranks before rf: the middle of the path is worth more';
    const { share } = results.claims.find((one) => one.claim === claim)!;
    expect(share).toBeGreaterThanOrEqual(0);
    if (ours.mean < plain.mean) expect(share).toBeGreaterThan(0.3);
    expect(findings.get(claim)![1]).toBe(`${(100 * share!).toFixed(1)} %`);
    expect(findings.get('rf/cosmap ranks before rf')).toEqual(['not run', '']);
    expect(markdown).toContain('One seed carries no claim');
    expect(markdown).toMatch(
      /Rank correlation \(Spearman\) with the published ranks over 4 formulations: -?\d\.\d\d/,
    );
  });

  test('says what is missing, and ranks only what is scored on every data set', async () => {
    const dir = folderOf(['photos.rf.seed-0']);
    const failed = { event: 'failed', run: 'photos.rf.seed-0', part: 'training', seconds: 0, threads: 1 };
    const line = { ...failed, error: 'photos.rf.seed-0: ERR_NON_FINITE: NaN', unix_seconds: 1 };
    writeFileSync(join(dir, 'journal.jsonl'), `${JSON.stringify(line)}\n`, { flag: 'a' });
    const { counts, markdown, results } = await reported(dir);
    expect(counts).toEqual({ runs: 8, complete: 7 });
    expect([...tableAfter(markdown, '## Ranks').keys()]).not.toContain('rf');
    expect(markdown).toContain('- photos.rf.seed-0 failed: photos.rf.seed-0: ERR_NON_FINITE: NaN');
    expect(results.variants.find(({ name }) => name === 'rf')).toMatchObject({ ranks: null, settings: [] });
  });

  test('of which only the first seed is complete says so, and claims nothing', async () => {
    const dir = folderOf();
    const { study } = recorded;
    const second = study.runs.map((run: { name: string }) => ({
      ...run,
      ...{ name: run.name.replace('seed-0', 'seed-1'), seed: 1 },
    }));
    writeFileSync(join(dir, 'study.json'), JSON.stringify({ ...study, runs: [...study.runs, ...second] }));
    const { counts, markdown } = await reported(dir);
    expect(counts).toEqual({ runs: 16, complete: 8 });
    expect(markdown).toContain('2 seeds (1 so far)');
    expect(markdown).toContain('One seed carries no claim');
    expect(markdown).toContain('with one seed: what another seed would give is not in them');
  });

  test('of nothing that is complete has no ranks and no figures of scores', async () => {
    const dir = folderOf();
    for (const name of Object.keys(recorded.runs)) rmSync(join(dir, name), { recursive: true });
    const { counts, markdown } = await reported(dir);
    expect(counts).toEqual({ runs: 8, complete: 0 });
    expect(markdown).not.toContain('## Ranks');
    expect(markdown).not.toContain('![');
  });

  test('of variants of one formulation says nothing of the paper', async () => {
    const dir = folderOf();
    const { study } = recorded;
    const runs = study.runs.map((run: object) => ({ ...run, formulation: 'rf' }));
    writeFileSync(join(dir, 'study.json'), JSON.stringify({ ...study, runs }));
    const { markdown, results } = await reported(dir);
    expect(markdown).not.toMatch(/paper|CC12M/);
    expect([results.claims, results.correlation]).toEqual([[], null]);
    expect(tableAfter(markdown, '## Ranks').size).toBe(4);
  });

  test('names the features of its distance, and no other', async () => {
    const { markdown } = await reported(folderOf());
    expect(markdown).toContain('over latent moments');
    expect(markdown).toContain('neither FID nor CLIP');
  });
});

test('several seeds have a mean and a deviation, and an interval that holds both kinds of chance', () => {
  const seeds = [0.2, 0.4, 0.9];
  const setting = { data: 'scenes', weights: 'ema', sampler: 0 } as const;
  const runs = (spread: number) =>
    seeds.map((followed, seed) => ({
      listed: { data: 'scenes', seed },
      scores: {
        settings: [
          {
            ...{ weights: 'ema', sampler: 0, followed, frechet: 10 },
            replicates: Array.from({ length: 200 }, (_, r) => ({
              followed: followed + spread * ((r % 5) - 2),
              // Resampled distances are biased; their mean is not what counts.
              frechet: 15 + (r % 2),
            })),
          },
        ],
      },
    })) as unknown as FoundRun[];
  const { followed, frechet } = estimateOf(runs(0), setting);
  expect(followed.mean).toBeCloseTo(0.5, 12);
  expect(followed.deviation).toBeCloseTo(Math.sqrt((0.09 + 0.01 + 0.16) / 2), 12);
  expect(followed.interval!.low).toBeGreaterThanOrEqual(0.2);
  expect(followed.interval!.low).toBeLessThan(0.4);
  expect(followed.interval!.high).toBeGreaterThan(0.6);
  expect(frechet).toMatchObject({ mean: 10, deviation: 0 });
  expect(frechet.interval).toEqual({ low: expect.closeTo(9.5, 10), high: expect.closeTo(10.5, 10) });
  const { followed: wider } = estimateOf(runs(0.1), setting);
  expect(wider.interval!.high - wider.interval!.low).toBeGreaterThan(
    followed.interval!.high - followed.interval!.low,
  );
});

test('the interval of a share lies between 0 and 1, though its resamples are not around it', () => {
  const replicates = Array.from({ length: 40 }, (_, r) => ({ followed: r < 30 ? 0 : 0.1, frechet: 10 }));
  const settings = [{ weights: 'ema', sampler: 0, followed: 0.01, frechet: 10, replicates }];
  const run = { listed: { data: 'scenes', seed: 0 }, scores: { settings } } as unknown as FoundRun;
  const { followed } = estimateOf([run], { data: 'scenes', weights: 'ema', sampler: 0 });
  expect(followed.interval).toEqual({ low: 0, high: 0.1 });
});
