/** Splits captions into phrases of known words. */
import { OrchestratorError } from '../errors.js';
import { nearest } from '../text/nearest.js';
import { plural } from './captions.js';
import { BACKGROUND_NAMES, COLOR_NAMES, COUNT_WORDS, RELATIONS, SHAPES, SIZE_NAMES } from './vocabulary.js';

/** The pieces of a phrase; each phrase becomes a token. */
export type Phrase = string[];

/** Words that are ignored. */
const SILENT: ReadonlySet<string> = new Set(['a', 'an', 'the', 'at', 'in', 'of', 'photo', 'background']);
/** Words that only begin a new phrase. */
const SEPARATORS: ReadonlySet<string> = new Set(['and', 'on']);
const RELATION_PIECES: ReadonlySet<string> = new Set(RELATIONS.map((relation) => relation.replace(' ', '-')));
const PLURAL = '-s';
const ROWS = ['top', 'middle', 'bottom'];

/** All pieces that have a vector. Their order is part of the encoders' definition. */
export const VOCABULARY: readonly string[] = [
  '<pad>',
  PLURAL,
  ...SHAPES,
  ...COLOR_NAMES,
  ...BACKGROUND_NAMES,
  ...SIZE_NAMES,
  ...ROWS,
  'left',
  'center',
  'right',
  ...RELATION_PIECES,
  ...Object.keys(COUNT_WORDS),
];
const PIECES: ReadonlySet<string> = new Set(VOCABULARY.slice(1));
/** The pieces that are words by themselves. */
const KNOWN_WORDS = VOCABULARY.filter((piece) => !piece.includes('-') && !piece.startsWith('<'));

/**
 * Splits a caption into phrases: "two red circles left of a square" -> [[two, red, circle, -s], [left-of,
 * square]]. A comma, "and", "on" and a relation begin a phrase.
 *
 * @throws OrchestratorError ERR_PROMPT: a word is unknown, or there are no words.
 */
export function phrases(caption: string): Phrase[] {
  const words =
    caption
      .toLowerCase()
      .replaceAll(',', ' and ')
      .match(/[^\s.]+/g) ?? [];
  const found: Phrase[] = [[]];
  words.forEach((word, i) => {
    const relation = words[i + 1] === 'of' ? `${word}-of` : word;
    if (SEPARATORS.has(word)) {
      found.push([]);
    } else if (RELATION_PIECES.has(relation)) {
      found.push([relation]);
    } else if (!SILENT.has(word)) {
      found.at(-1)!.push(...pieces(word, words, caption));
    }
  });
  const filled = found.filter((phrase) => phrase.length > 0).map(complete);
  if (filled.length === 0) {
    throw new OrchestratorError('ERR_PROMPT', `The prompt "${caption}" has no meaningful words`, hint(words));
  }
  return filled;
}

/** "center" without a row means the middle row. */
function complete(phrase: Phrase): Phrase {
  const rowless = phrase.includes('center') && !ROWS.some((row) => phrase.includes(row));
  return rowless ? [...phrase, 'middle'] : phrase;
}

function pieces(word: string, words: readonly string[], caption: string): string[] {
  if (PIECES.has(word)) return [word];
  for (const ending of ['es', 's']) {
    const stem = word.slice(0, -ending.length);
    if (word.endsWith(ending) && (SHAPES as readonly string[]).includes(stem)) return [stem, PLURAL];
  }
  const near = nearest(word, [...KNOWN_WORDS, ...SHAPES.map(plural)]);
  throw new OrchestratorError(
    'ERR_PROMPT',
    `The prompt "${caption}" has the word "${word}", which the shapes world does not know${near === null ? '' : `; did you mean ${near}`}`,
    hint(words),
  );
}

function hint(words: readonly string[]): string {
  const quotes = words.length > 1 ? '' : 'Quote a prompt of several words: --prompt "a red circle". ';
  const known = [...new Set([...KNOWN_WORDS, ...RELATIONS])].join(', ');
  return `${quotes}It knows: ${known}; plurals; ${[...SEPARATORS, ...SILENT].join(', ')}`;
}
