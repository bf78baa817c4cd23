/** What is wrong with text that is not YAML, or gives a key twice: where, and in words for who wrote it. */
import { type Document, isMap, isScalar, type LineCounter, visit, type YAMLError } from 'yaml';

interface TextProblem {
  offset: number;
  /** The key that it concerns; empty if none. */
  key: string;
  text: string;
}

/** Longest line of a file that is shown. */
const WIDEST = 100;

/**
 * The problems of a parsed document: of text that is not YAML the first, because the others follow from it;
 * and every repeated key.
 *
 * @param placeOf "run.yaml:3:5" of an offset.
 */
export function textProblems(
  document: Document,
  source: string,
  lines: LineCounter,
  placeOf: (offset: number) => string,
): TextProblem[] {
  const repeated = document.errors.filter(({ code }) => code === 'DUPLICATE_KEY');
  const [first, ...others] = document.errors.filter(({ code }) => code !== 'DUPLICATE_KEY');
  const problems = repeated.map(({ pos: [offset] }) => repeatedKey(document, offset, placeOf));
  if (first === undefined) return problems;
  // "a: b" over several lines is reported twice, and only this error says where it ends.
  const whole = others.find(({ code, pos }) => code === 'MULTILINE_IMPLICIT_KEY' && pos[0] === first.pos[0]);
  const { offset, text } = explained(whole ?? first, source);
  return [{ offset, key: '', text: `${text}\n${excerpt(source, lines, offset)}` }, ...problems];
}

function explained({ code, pos: [from, to], message }: YAMLError, source: string) {
  const at = (offset: number, what: string) => ({ offset, text: `not readable as YAML: ${what}` });
  const indentation = (offset: number) => /^[ ]*/.exec(source.slice(startOfLine(source, offset)))![0].length;
  const firstLetter = (offset: number) => startOfLine(source, offset) + indentation(offset);
  const expected = 'expected "key: value", with a space after the colon';
  switch (code) {
    case 'MULTILINE_IMPLICIT_KEY':
      if (indentation(to) > indentation(from)) {
        const what = 'this line is indented below a line that has a value already; check the indentation';
        return at(firstLetter(to), what);
      }
      return at(from, source[from] === '-' ? `${expected}, found an item of a list` : expected);
    case 'BLOCK_AS_IMPLICIT_KEY':
      return at(from, 'a value with ": " in it must be in quotes');
    case 'BAD_INDENT':
      if (message.startsWith('Flow')) {
        return at(Math.max(0, source.slice(0, from).trimEnd().length - 1), 'a "[" or "{" is not closed');
      }
      return at(firstLetter(from), 'this line is not in the column of its neighbours; check the indentation');
    case 'TAB_AS_INDENT':
      return at(from, 'lines are indented with spaces, not with tabs');
    case 'MULTIPLE_DOCS':
      return { offset: from, text: 'expected one YAML document, received several' };
    default:
      return at(Math.min(from, lastOffset(source)), message.split('\n')[0]!);
  }
}

function lastOffset(source: string): number {
  return Math.max(0, source.trimEnd().length - 1);
}

function startOfLine(source: string, offset: number): number {
  return source.lastIndexOf('\n', offset - 1) + 1;
}

/** The line at an offset, with a caret below the place. */
function excerpt(source: string, lines: LineCounter, offset: number): string {
  const { line, col } = lines.linePos(offset);
  const start = startOfLine(source, offset);
  const [text = ''] = source.slice(start, start + WIDEST).split(/\r?\n/, 1);
  const number = String(line);
  return [
    `  ${number} | ${text.replaceAll('\t', ' ').replace(/[^\x20-\x7e\u00a0-\uffff]/g, '?')}`,
    `  ${' '.repeat(number.length)} | ${' '.repeat(Math.min(col - 1, WIDEST))}^`,
  ].join('\n');
}

/** The problem of the key at an offset, which its mapping holds already. */
function repeatedKey(document: Document, offset: number, placeOf: (offset: number) => string): TextProblem {
  let found: TextProblem = { offset, key: '', text: 'this key is given twice' };
  visit(document, {
    Pair(_, { key }, ancestors) {
      if (!isScalar(key) || key.range?.[0] !== offset) return undefined;
      const mapping = ancestors.at(-1);
      const first =
        isMap(mapping) && mapping.items.find((item) => isScalar(item.key) && item.key.value === key.value);
      const place =
        first && isScalar(first.key) && first.key.range ? ` first at ${placeOf(first.key.range[0])}` : '';
      found = { offset, key: String(key.value), text: `this key is given twice,${place}` };
      return visit.BREAK;
    },
  });
  return found;
}
