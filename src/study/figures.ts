/** The figures of a study's report. */

import { join } from 'node:path';
import { mean } from '../averages.js';
import { STUDY } from '../objective/study.js';
import { chartSvg, type Panel, type Series } from '../plots/chart.js';
import { writeDrawing } from '../plots/drawing.js';
import { intervalsSvg } from '../plots/intervals.js';
import { writeGrid } from '../shapes/pictures.js';
import { bestOfFamilies, inOrder, shownSetting } from './order.js';
import { drawPrompts, picturesIn, readReference } from './prompts.js';
import type { FoundRun, Results, SettingResult } from './result-types.js';
import { keptPictures, PICTURES_SHOWN } from './score.js';
import { COVERAGE } from './statistics.js';

export interface Figure {
  /** Name of the file without its ending. */
  name: string;
  caption: string;
  svg: string;
}

/** All figures that the results allow. */
export function figuresOf(results: Results, runs: readonly FoundRun[]): Figure[] {
  return [
    ranksFigure(results),
    stepsFigure(results),
    scatterFigure(results),
    curvesFigure(results, runs),
  ].filter((figure) => figure !== null);
}

function ranksFigure(results: Results): Figure | null {
  const ranked = inOrder(results).filter(({ ranks }) => ranks !== null);
  // A rank among fewer variants is another quantity than one among the paper's.
  const comparable = ranked.length >= STUDY.length;
  const rows = ranked.map(({ name, ranks, published }) => {
    const { mean: value, interval } = ranks!.all;
    return { label: name, value, interval, other: comparable ? (published.ranks?.all ?? null) : null };
  });
  if (rows.length < 2) return null;
  const rings = rows.some(({ other }) => other !== null);
  return {
    name: 'ranks',
    caption: `Average ranks over all settings, with ${100 * COVERAGE} % intervals${rings ? "; rings are the paper's, among its 61" : ''}.`,
    svg: intervalsSvg(
      'Average rank over all settings',
      'rank (1 = on the Pareto front of every setting)',
      rows,
    ),
  };
}

/** A score as an axis has it. */
type Scored = Pick<Panel, 'title' | 'yLabel' | 'within' | 'logarithmic'> & {
  value(setting: SettingResult): number;
};

const SCORES: readonly Scored[] = [
  {
    ...{ title: 'prompts followed', yLabel: '%', within: [0, 10], logarithmic: false },
    value: ({ followed }) => 100 * followed.mean,
  },
  {
    ...{ title: 'Frechet distance', yLabel: 'distance', logarithmic: true },
    value: ({ frechet }) => frechet.mean,
  },
];

/** A panel for each score of each data set. */
function scoreChart(
  data: readonly string[],
  { series, ...rest }: Pick<Panel, 'xLabel' | 'style'> & { series(set: string, score: Scored): Series[] },
): string {
  const panels = data.flatMap((set) =>
    SCORES.map((score) => {
      const { value, title, ...axis } = score;
      return { ...rest, ...axis, title: `${set}: ${title}`, series: series(set, score) };
    }),
  );
  return chartSvg(panels);
}

/** Figure 3 of the paper: scores over the number of steps at the largest guidance scale, with the EMA. */
function stepsFigure(results: Results): Figure | null {
  const { evaluation, data } = results;
  const families = bestOfFamilies(results).filter(({ settings }) => settings.length > 0);
  if (evaluation === null || families.length === 0) return null;
  const { samplers, weights } = evaluation;
  const guidance = Math.max(...samplers.map((sampler) => sampler.guidance));
  const chosen = samplers
    .map(({ steps, guidance: own }, index) => ({ steps, own, index }))
    .filter(({ own }) => own === guidance)
    .sort((a, b) => a.steps - b.steps);
  if (chosen.length < 2) return null;
  const series = (set: string, { value }: Scored) =>
    families.map(({ name, settings }) => ({
      label: name,
      points: chosen.map(({ steps, index }) => {
        const found = settings.find(
          (one) => one.data === set && one.sampler === index && one.weights === weights[0],
        );
        return { x: steps, y: found === undefined ? null : value(found) };
      }),
    }));
  return {
    name: 'steps',
    caption: `The best of each family over the number of steps, at guidance ${guidance}, weights ${weights[0]}${results.claims.length > 0 ? " (the paper's Figure 3)" : ''}.`,
    svg: scoreChart(data, { xLabel: 'steps', series }),
  };
}

/** The error of the noise estimate against the scores of the shown setting. */
function scatterFigure(results: Results): Figure | null {
  const { evaluation, data } = results;
  const scored = inOrder(results).filter(({ settings }) => settings.length > 0);
  if (evaluation === null || scored.length < 2) return null;
  const families = [...new Set(scored.map(({ family }) => family))];
  const series = (set: string, { value }: Scored) =>
    families.map((family) => ({
      label: family,
      points: scored.flatMap((variant) => {
        const setting = shownSetting(results, variant, set);
        const error = variant.losses[set]?.epsilonError;
        if (variant.family !== family || setting === null || !error) return [];
        return [{ x: error.mean, y: value(setting) }];
      }),
    }));
  return {
    name: 'scatter',
    caption:
      'The validation error that compares across formulations, against the scores of the shown setting.',
    svg: scoreChart(data, { xLabel: 'squared error of the noise estimate', style: 'points', series }),
  };
}

/** The error of the noise estimate over the steps of training, averaged over seeds. */
function curvesFigure(results: Results, runs: readonly FoundRun[]): Figure | null {
  const families = bestOfFamilies(results);
  if (families.length === 0) return null;
  const panels = results.data.map(
    (set): Panel => ({
      ...{ title: `${set}: validation`, xLabel: 'step', yLabel: 'squared error of the noise estimate' },
      logarithmic: true,
      series: families.map(({ name }) => {
        const own = runs.filter(({ listed }) => listed.variant === name && listed.data === set);
        const bySteps = new Map<number, number[]>();
        for (const { step, ema, master } of own.flatMap(({ validations }) => validations)) {
          const errors = Object.values((ema ?? master)?.epsilon_error ?? {});
          if (errors.length > 0) bySteps.set(step, [...(bySteps.get(step) ?? []), mean(errors)]);
        }
        const points = [...bySteps].sort(([a], [b]) => a - b).map(([x, values]) => ({ x, y: mean(values) }));
        return { label: name, points };
      }),
    }),
  );
  return {
    name: 'curves',
    caption: 'Validation during training: the mean squared error of the noise estimate at eight log-SNRs.',
    svg: chartSvg(panels),
  };
}

/** Writes a figure as SVG and as PNG. */
export async function writeFigure(folder: string, { name, svg }: Figure): Promise<void> {
  for (const ending of ['svg', 'png']) await writeDrawing(join(folder, `${name}.${ending}`), svg);
}

const MOST_PICTURED = 17;

/**
 * Writes a grid for each data set: a row of pictures for each variant that the paper's Table 1 has, or for the
 * best ones.
 *
 * @returns names of the files.
 */
export async function writePictures(
  dir: string,
  folder: string,
  results: Results,
  runs: readonly FoundRun[],
): Promise<{ name: string; data: string }[]> {
  const { evaluation } = results;
  if (evaluation === null) return [];
  const ordered = inOrder(results).filter(({ ranks }) => ranks !== null);
  const inTable = ordered.filter(({ published }) => published.ranks !== null);
  const chosen = (inTable.length > 1 ? inTable : ordered).slice(0, MOST_PICTURED);
  const written: { name: string; data: string }[] = [];
  for (const data of results.data) {
    const reference = readReference(dir, data);
    if (reference === null) continue;
    const prompts = drawPrompts(picturesIn(reference), PICTURES_SHOWN);
    const rows: { pixels: Uint8Array; label: string }[] = [];
    for (const { name } of chosen) {
      const run = runs.find(
        ({ listed, scores }) => listed.variant === name && listed.data === data && scores,
      );
      if (run === undefined) continue;
      const pictures = await keptPictures(join(dir, run.listed.name));
      rows.push(
        ...pictures.map((pixels, i) => ({
          pixels,
          label: i === 0 ? `${name}: ${prompts[i]!.prompt}` : prompts[i]!.prompt,
        })),
      );
    }
    if (rows.length === 0) continue;
    const name = `pictures-${data}.jpg`;
    await writeGrid(rows, join(folder, name), { columns: PICTURES_SHOWN });
    written.push({ name, data });
  }
  return written;
}
