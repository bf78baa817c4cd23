/**
 * No bit of a run may come from a function that engines or C libraries implement differently. The sources are
 * searched for such functions; what computes them instead is src/native/elementary.ts and
 * native/core/elementary.h.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

/** Exact by ECMAScript's definition; sqrt by IEEE 754. */
const EXACT_IN_JAVASCRIPT =
  /^(abs|ceil|floor|round|trunc|sign|min|max|sqrt|fround|imul|clz32|PI|E|LN2|LN10|LOG2E|LOG10E|SQRT2|SQRT1_2)$/;

/** Functions of libm, except those that IEEE 754 defines to the last bit (sqrt, fma, floor, fmax, ldexp). */
const LIBM = [
  ...['exp', 'exp2', 'exp10', 'expm1', 'log', 'log2', 'log10', 'log1p', 'pow', 'cbrt', 'hypot', 'rsqrt'],
  ...['sin', 'cos', 'tan', 'sincos', 'sinpi', 'cospi', 'sincospi', 'asin', 'acos', 'atan', 'atan2'],
  ...['sinh', 'cosh', 'tanh', 'asinh', 'acosh', 'atanh', 'erf', 'erfc', 'tgamma', 'lgamma'],
];
/**
 * Called bare, through std:: or ::, as a builtin, or as CUDA's fast version; not as somebody's own:
 * name::exp, x.exp.
 */
const LIBM_CALL = new RegExp(
  String.raw`(?<![\w.]|->|\w::)(?:std::|::)?(?:__builtin_|__)?(?:${LIBM.join('|')})[fl]?\s*\(`,
  'g',
);

/** Files that may use them, each with its reason. */
const ALLOWED: Record<string, string> = {
  'native/core/elementary.h': 'defines functions of these names, and calls them',
};

function files(folder: string, ending: RegExp): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => ending.test(name))
    .map((name) => join(folder, name));
}

/** Without comments and without the contents of plain strings; lines stay where they are. */
function code(text: string): string {
  const blank = (part: string) => part.replace(/[^\n]/g, ' ');
  return text.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"/g, (part) =>
    /^['"]/.test(part) ? `${part[0]}${blank(part.slice(1, -1))}${part[0]}` : blank(part),
  );
}

function inJavaScript(text: string): string[] {
  const found: string[] = [];
  for (const [use, , name] of text.matchAll(/\bMath\b(\s*\.\s*(\w+))?/g)) {
    // Math alone may be taken apart: const { exp } = Math, Math[name].
    if (name === undefined || !EXACT_IN_JAVASCRIPT.test(name)) found.push(use);
  }
  // Powers of constants: every engine has 2 ** 30, and compilers compute it.
  for (const [use] of text.matchAll(/[^\s(]*\s*\*\*=?\s*\S+/g)) {
    if (!/^-?[\d.]+\s*\*\*\s*-?\d+[;,)\]}`]*$/.test(use)) found.push(use.trim());
  }
  return found;
}

const inCpp = (text: string) => [...text.matchAll(LIBM_CALL)].map(([use]) => use);

function search(folder: string, ending: RegExp, without: RegExp, find: (text: string) => string[]): string[] {
  return files(folder, ending)
    .filter((file) => !without.test(file) && ALLOWED[file] === undefined)
    .flatMap((file) => find(code(readFileSync(file, 'utf8'))).map((use) => `${file}: ${use}`));
}

describe('functions that differ between engines or libraries', () => {
  test('do not occur in src/', () => {
    expect(search('src', /\.ts$/, /\/generated\//, inJavaScript)).toEqual([]);
  });

  test('do not occur in native/, but in tests and benches', () => {
    expect(search('native', /\.(cc|cu|h)$/, /^native\/(test|bench)\//, inCpp)).toEqual([]);
  });

  test('are found', () => {
    const typescript = [
      'Math.pow(a, 2)',
      'const { exp } = Math;',
      'Math.atan2 (y, x)',
      'a ** 2',
      '2 ** n',
      'x **= 2',
      '(a + b) ** 2',
    ];
    for (const text of typescript) expect(inJavaScript(code(text)), text).toHaveLength(1);
    const fine = [
      '64 * 2 ** 20;',
      '(x + 0.5) * 2 ** -32',
      'Math.sqrt(x) // ** 2',
      '/** Math.exp */',
      "'a ** b'",
    ];
    for (const text of fine) expect(inJavaScript(code(text)), text).toEqual([]);
    const cpp = [
      'std::pow(x, 2)',
      ' = ::exp(x)',
      'y = expf (x)',
      '-logl(x)',
      '__sinf(x)',
      '__builtin_cos(x)',
      '{tanhf(x)',
      'x>exp(y)',
      'c ? x :sin(y)',
    ];
    for (const text of cpp) expect(inCpp(code(text)), text).toHaveLength(1);
    const own = [
      'elementary::exp(x)',
      'exp_of(x)',
      'std::sqrt(x)',
      'table.log(x)',
      'log->exp(x)',
      'std::fmax(x, y)',
    ];
    for (const text of own) expect(inCpp(code(text)), text).toEqual([]);
  });

  test('are allowed in files that exist', () => {
    for (const file of Object.keys(ALLOWED)) expect(readFileSync(file, 'utf8').length).toBeGreaterThan(0);
  });
});
