/** Ranks of variants by two scores at once (SD3 paper, section 5.1 and appendix B.3). */

/** How a variant does at one setting; more prompts followed and a smaller distance are better. */
export interface Point {
  followed: number;
  frechet: number;
}

function dominates(a: Point, b: Point): boolean {
  return (
    a.followed >= b.followed && a.frechet <= b.frechet && (a.followed > b.followed || a.frechet < b.frechet)
  );
}

/**
 * The rank of each point: 1 for those that no other dominates, 2 for those that none of the rest dominates, and
 * so on: Pareto fronts are peeled off one after the other (non-dominated sorting).
 */
export function paretoRanks(points: readonly Point[]): number[] {
  // Whoever dominates a point comes before it, so the ranks of those are known when it is its turn.
  const order = points
    .map((_, i) => i)
    .sort((i, j) => points[j]!.followed - points[i]!.followed || points[i]!.frechet - points[j]!.frechet);
  const ranks = points.map(() => 0);
  order.forEach((i, place) => {
    for (const j of order.slice(0, place)) {
      if (dominates(points[j]!, points[i]!)) ranks[i] = Math.max(ranks[i]!, ranks[j]!);
    }
    ranks[i]!++;
  });
  return ranks;
}

/**
 * The rank of each variant, averaged over settings.
 *
 * @param settings the points of all variants, in the same order at each setting.
 */
export function averageRanks(settings: readonly (readonly Point[])[]): number[] {
  const sums = (settings[0] ?? []).map(() => 0);
  for (const points of settings) {
    paretoRanks(points).forEach((rank, i) => {
      sums[i]! += rank / settings.length;
    });
  }
  return sums;
}

/** The places of values in ascending order, from 1; equal values share the mean of their places. */
export function placesOf(values: readonly number[]): number[] {
  return values.map((value) => {
    const below = values.filter((other) => other < value).length;
    const equal = values.filter((other) => other === value).length;
    return below + (equal + 1) / 2;
  });
}

/** Spearman's rank correlation of two lists of equal length; null where one of them is constant. */
export function rankCorrelation(a: readonly number[], b: readonly number[]): number | null {
  const centred = [a, b].map((values) => {
    const places = placesOf(values);
    return places.map((place) => place - (values.length + 1) / 2);
  });
  const dot = (i: number, j: number) =>
    centred[i]!.reduce((sum, value, k) => sum + value * centred[j]![k]!, 0);
  const scale = Math.sqrt(dot(0, 0) * dot(1, 1));
  return scale === 0 ? null : dot(0, 1) / scale;
}
