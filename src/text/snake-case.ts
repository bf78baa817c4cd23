/** "firstNonFiniteRows" is "first_non_finite_rows"; other texts stay as they are. */
export function snakeCase(key: string): string {
  if (!/^[a-z][A-Za-z0-9]*$/.test(key)) return key;
  return key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
