/**
 * Means and medians. A mean is summed in the order of the values, so that equal values have equal bits. The median of
 * an even number of values is one of the two in the middle, never a value between them: which one, the name says.
 */

/** NaN without values. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The middle value, the smaller of two. There must be a value. */
export function medianLow(values: readonly number[]): number {
  return middle(values, (values.length - 1) / 2);
}

/** The middle value, the larger of two. There must be a value. */
export function medianHigh(values: readonly number[]): number {
  return middle(values, values.length / 2);
}

function middle(values: readonly number[], place: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(place)]!;
}
