/** The report of a study as Markdown. */
import { FEATURES } from '../shapes/evaluation/frechet.js';
import { counted, quantity, timeSpan } from '../text/quantities.js';
import type { Figure } from './figures.js';
import { inOrder, shownSetting } from './order.js';
import type { Group, Measured, Occasion, Results, VariantResult } from './result-types.js';
import { COVERAGE } from './statistics.js';

/** Shares of resamples from which on a claim is said to show, or not to. */
const SHOWS = 0.95;

export function renderReport(
  results: Results,
  { date, hardware }: Occasion,
  figures: readonly Figure[],
  pictures: readonly { name: string; data: string }[],
): string {
  const sections = [
    `# Study: ${results.name}`,
    whatWasRun(results, date, hardware),
    claims(results),
    ranks(results),
    scores(results),
    losses(results),
    ...figures.map(({ name, caption }) => `![${name}](${name}.svg)\n\n${caption}`),
    ...pictures.map(
      ({ name, data }) =>
        `![pictures of ${data}](${name})\n\nThe first pictures of ${data} at the shown setting.`,
    ),
    notComplete(results),
  ];
  return `${sections.filter((section) => section !== '').join('\n\n')}\n`;
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const rule = header.map((_, i) => (i === 0 ? '---' : '---:'));
  return [line(header), line(rule), ...rows.map(line)].join('\n');
}

function whatWasRun(results: Results, date: string, hardware: string): string {
  const { variants, evaluation, data, seeds, command, versions, coreSeconds, real } = results;
  const scored = scoredSeeds(results);
  const runs = variants.flatMap((variant) => variant.runs);
  const complete = runs.filter(({ state }) => state === 'scored').length;
  const lines = [
    `- ${date}, on ${hardware}: \`${command}\``,
    `- ${complete} of ${counted(runs.length, 'run')} complete: ${counted(variants.length, 'variant')}, data sets ${data.join(' and ')}, ${counted(seeds.length, 'seed')}${scored === seeds.length ? '' : ` (${scored} so far)`}; ${timeSpan(coreSeconds)} of core time.`,
    ...versions.map((one) => `- Computed with: ${one}.`),
  ];
  if (evaluation !== null) {
    const { samplers, pictures, replicates, reference, weights } = evaluation;
    const how = samplers
      .map(({ steps, guidance }) => `${counted(steps, 'step')} at guidance ${guidance}`)
      .join(', ');
    lines.push(
      `- Each run is scored at the step of the lowest validation loss of its EMA, with weights ${weights.join(' and ')}, in ${counted(samplers.length, 'way')}: ${how}. Each setting has ${pictures} pictures, of captions that are in no data set.`,
      `- *Followed*: the share of pictures that show exactly what the caption says of the objects, by the exact detector. *Frechet distance*: over ${FEATURES} (mean and deviation of each latent channel), against ${reference} new pictures of the data set. It is neither FID nor CLIP, and its scale is its own.`,
      `- Intervals hold ${100 * COVERAGE} % of ${replicates} resamples of the pictures${scored > 1 ? ' and of the seeds' : ', with one seed: what another seed would give is not in them'}.`,
    );
    for (const [name, { count, followed, frechet }] of Object.entries(real)) {
      lines.push(
        `- ${count} real pictures of ${name} follow ${percent(followed)} of their captions, at a distance of ${frechet.toFixed(2)}: as near as so few can be.`,
      );
    }
  }
  return `## What was run\n\n${lines.join('\n')}`;
}

/** With how many seeds every variant that is ranked, or else every variant, was scored. */
function scoredSeeds({ variants, seeds, evaluation }: Results): number {
  if (evaluation === null) return seeds.length;
  const ranked = variants.filter(({ ranks: own }) => own !== null);
  const compared = ranked.length > 0 ? ranked : variants;
  const isScored = (seed: number) =>
    compared.every(({ runs }) => runs.every((run) => run.seed !== seed || run.state === 'scored'));
  return seeds.filter(isScored).length;
}

function claims(results: Results): string {
  const { claims: judged, correlation } = results;
  if (judged.length === 0) return '';
  const verdict = (share: number | null) => {
    if (share === null) return 'not run';
    if (share >= SHOWS) return 'shows';
    return share <= 1 - SHOWS ? 'does not show' : 'undecided';
  };
  const rows = judged.map(({ claim, share }) => [
    claim,
    verdict(share),
    share === null ? '' : percent(share),
  ]);
  const agreement =
    correlation === null
      ? ''
      : `\n\nRank correlation (Spearman) with the published ranks over ${correlation.variants} formulations: ${withInterval(correlation)}.`;
  const caution =
    scoredSeeds(results) > 1 ? '' : ' One seed carries no claim about the formulations; several do.';
  return `## What the paper found, and whether it shows here

A finding shows if it holds in at least ${100 * SHOWS} % of the resamples, and does not if in at most ${(100 * (1 - SHOWS)).toFixed(0)} %.${caution}

${table(['finding', 'here', 'resamples'], rows)}${agreement}`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

function withInterval({ mean, interval }: Measured, digits = 2): string {
  const number = (value: number) => value.toFixed(digits);
  return interval === null
    ? number(mean)
    : `${number(mean)} (${number(interval.low)} to ${number(interval.high)})`;
}

function ranks(results: Results): string {
  const { steps } = results;
  const ranked = inOrder(results).filter((variant) => variant.ranks !== null);
  if (ranked.length < 2 || steps === null) return '';
  const published = ranked.some((variant) => variant.published.ranks !== null);
  const groups: [Group, string][] = [['all', 'all settings']];
  if (steps.fewest < steps.most) {
    groups.push(['fewest', counted(steps.fewest, 'step')], ['most', counted(steps.most, 'step')]);
  }
  const header = [
    'variant',
    ...groups.map(([, title]) => title),
    ...(published ? groups.map(([, title]) => `paper: ${title}`) : []),
  ];
  const rows = ranked.map(({ name, ranks: own, published: { ranks: theirs } }) => [
    name,
    ...groups.map(([group]) => withInterval(own![group])),
    ...(published ? groups.map(([group]) => (theirs === null ? '' : theirs[group].toFixed(2))) : []),
  ]);
  const note = published
    ? ` The paper's ranks are among its 61 formulations; these are among ${ranked.length}, so compare their order.`
    : '';
  return `## Ranks${published ? " (the paper's Table 1)" : ''}

At each setting, variants are ranked by peeling Pareto fronts of (followed, distance); ranks are averaged over settings.${note}

${table(header, rows)}`;
}

function scores(results: Results): string {
  const { evaluation, data } = results;
  const scored = inOrder(results).filter(({ settings }) => settings.length > 0);
  if (evaluation === null || scored.length === 0) return '';
  const { steps, guidance } = evaluation.samplers[evaluation.shown]!;
  const published = scored.some((variant) => variant.published.scores !== null);
  const header = [
    'variant',
    ...data.flatMap((set) => [`${set}: followed, %`, `${set}: distance`]),
    ...(published ? ['paper: ImageNet CLIP', 'FID', 'CC12M CLIP', 'FID'] : []),
  ];
  const rows = scored.map((variant) => [
    variant.name,
    ...data.flatMap((set) => {
      const { followed, frechet } = shownSetting(results, variant, set)!;
      return [withSpread(inPercent(followed), 1), withSpread(frechet, 2)];
    }),
    ...(published ? paperScores(variant) : []),
  ]);
  return `## Scores${published ? " (the paper's Table 2)" : ''}

At ${counted(steps, 'step')} and guidance ${guidance}, weights ${evaluation.weights[0]}: the mean${scoredSeeds(results) > 1 ? ' ± the deviation over seeds' : ''}, and its interval.${published ? " The paper's numbers are of other data and other measures: compare their order." : ''}

${table(header, rows)}`;
}

function paperScores({ published: { scores: found } }: VariantResult): string[] {
  if (found === null) return ['', '', '', ''];
  const { imagenet, cc12m } = found;
  return [imagenet.clip.toFixed(3), imagenet.fid.toFixed(2), cc12m.clip.toFixed(3), cc12m.fid.toFixed(2)];
}

function inPercent({ mean, deviation, interval }: Measured): Measured {
  return {
    mean: 100 * mean,
    deviation: deviation === null ? null : 100 * deviation,
    interval: interval === null ? null : { low: 100 * interval.low, high: 100 * interval.high },
  };
}

/** "81.3 ± 2.0 (78.1 to 84.4)" */
function withSpread(value: Measured, digits: number): string {
  const { mean, deviation, interval } = value;
  const spread = deviation === null ? '' : ` ± ${deviation.toFixed(digits)}`;
  const range =
    interval === null ? '' : ` (${interval.low.toFixed(digits)} to ${interval.high.toFixed(digits)})`;
  return `${mean.toFixed(digits)}${spread}${range}`;
}

function losses(results: Results): string {
  const { data } = results;
  const started = inOrder(results).filter((variant) => Object.keys(variant.losses).length > 0);
  if (started.length === 0) return '';
  const cell = (value: Measured | null | undefined) => {
    if (!value) return '';
    return `${quantity(value.mean)}${value.deviation === null ? '' : ` ± ${quantity(value.deviation)}`}`;
  };
  const header = ['variant', ...data.flatMap((set) => [`${set}: step`, 'noise error', 'own loss'])];
  const rows = started.map(({ name, runs, losses: found }) => [
    name,
    ...data.flatMap((set) => {
      const steps = runs.flatMap(({ data: own, best }) =>
        own === set && best !== null ? [String(best.step)] : [],
      );
      return [steps.join(', '), cell(found[set]?.epsilonError), cell(found[set]?.loss)];
    }),
  ]);
  const formulations = new Set(started.map(({ formulation }) => formulation)).size;
  const caution =
    formulations > 1 ? ' Losses of two formulations are not comparable; the noise error is.' : '';
  return `## Losses

At the step that is scored: the mean squared error of the noise estimate at eight log-SNRs, and the variant's own validation loss.${caution}

${table(header, rows)}`;
}

function notComplete({ variants }: Results): string {
  const runs = variants.flatMap((variant) => variant.runs);
  const failed = runs.filter(({ state }) => state === 'failed');
  const open = runs.filter(({ state }) => state !== 'failed' && state !== 'scored');
  if (failed.length + open.length === 0) return '';
  const lines = failed.map(({ name, error }) => `- ${name} failed: ${error}`);
  if (open.length > 0) lines.push(`- Not complete: ${open.map(({ name }) => name).join(', ')}.`);
  return `## What is missing\n\nA variant has a rank once it is scored on every data set.\n\n${lines.join('\n')}`;
}
