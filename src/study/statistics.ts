/** Deviations and bootstrap intervals; every resample is a function of its number alone. */
import { mean } from '../averages.js';
import { drawUniforms, STREAM } from '../random/philox.js';

/** Standard deviation with n - 1; null for a single value. */
export function deviation(values: readonly number[]): number | null {
  if (values.length < 2) return null;
  const centre = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - centre) * (value - centre), 0);
  return Math.sqrt(squares / (values.length - 1));
}

/** What is drawn again; part of the counter, so that the draws of one do not depend on the other. */
export const RESAMPLED = { pictures: 0, seeds: 1 } as const;

/**
 * The indices of a bootstrap resample: `count` of 0 .. count - 1, with replacement. A function of its arguments
 * alone, so resample r is the same for every variant: their differences keep what the pictures share.
 */
export function resample(count: number, replicate: number, what: number): number[] {
  const indices: number[] = [];
  for (let group = 0; indices.length < count; group++) {
    const key = { seed: 0n, stream: STREAM.bootstrap, step: replicate, sampleId: what };
    for (const u of drawUniforms(key, group)) indices.push(Math.floor(u * count));
  }
  return indices.slice(0, count);
}

/** The value below which a share of the others lies, between neighbours in proportion. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below]! + (place - below) * (sorted[above]! - sorted[below]!);
}

/** Share of resamples within an interval. */
export const COVERAGE = 0.9;

export interface Interval {
  low: number;
  high: number;
}

/** The interval that holds the middle share of replicates; null without any. */
export function interval(replicates: readonly number[]): Interval | null {
  if (replicates.length === 0) return null;
  const outside = (1 - COVERAGE) / 2;
  return { low: quantile(replicates, outside), high: quantile(replicates, 1 - outside) };
}

/**
 * Replicates moved so that their mean is the value itself. A Frechet distance is biased upwards for fewer
 * different pictures, and a resample has fewer.
 */
export function centred(replicates: readonly number[], value: number): number[] {
  const offset = value - mean(replicates);
  return replicates.map((replicate) => replicate + offset);
}
