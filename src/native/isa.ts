/** Instruction sets: which of them a processor with another one has, too. */

/** By family, each has all those before it. Every processor has the first. */
const FAMILIES = [
  ['generic', 'avx2', 'avx512', 'avx512bf16'],
  ['generic', 'neon', 'neonbf16'],
];

/** The highest instruction set that processors have in common; null: none but the slow one. */
export function lowestCommonIsa(isas: readonly string[]): string | null {
  const family = FAMILIES.find((names) => isas.every((isa) => names.includes(isa)));
  return family === undefined ? null : family[Math.min(...isas.map((isa) => family.indexOf(isa)))]!;
}
