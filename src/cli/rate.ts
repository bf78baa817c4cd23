/** Rates on the command line. */
import { InvalidArgumentError } from 'commander';

/** "400G", "0.8P", "4e11": a positive number with a decimal prefix; an ending such as FLOP/s or B/s is allowed. */
export function rate(text: string): number {
  const match = /^(\d+(?:\.\d+)?(?:e\d+)?)\s*([KMGTP]?)(?:FLOPS?|B|F)?(?:\/s)?$/i.exec(text);
  const value =
    match === null ? 0 : Number(match[1]) * 1000 ** ' KMGTP'.indexOf(match[2]?.toUpperCase() || ' ');
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('Expected a positive number with K, M, G, T or P, such as 400G.');
}
