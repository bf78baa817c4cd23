/** Lists of which the rest is only counted. */
import { counted } from './quantities.js';

/** The first `most` lines of a list, and how many more there are. */
export function shortened(lines: readonly string[], most: number): string[] {
  const more = lines.length - most;
  return more > 0 ? [...lines.slice(0, most), `and ${more} more`] : [...lines];
}

/** A line names so many workers; `status` and the journal name all. */
const NAMED = 16;

/** "a, b", of many "a, b and 3 others": the first `most`. */
export function named(names: readonly string[], most = NAMED): string {
  const others = names.length - most;
  const first = names.slice(0, most).join(', ');
  return others > 0 ? `${first} and ${counted(others, 'other')}` : first;
}
