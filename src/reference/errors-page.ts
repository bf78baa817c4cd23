/** Generates docs/reference/errors.md from the table of errors. */
import { ERRORS } from '../errors.js';
import { code, page, table } from './markdown.js';

const INTRODUCTION = `Every error has a code that does not change between versions; the message names the file, key, row or address, the
value and what was expected. \`--debug\` adds stacks. \`ERR_CONFIG\` and \`ERR_USAGE\` exit with 2, all others with 1.`;

export function errorsPage(): string {
  const rows = Object.entries(ERRORS)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, description]) => [code(name), description]);
  return page('Errors', 'src/errors.ts', INTRODUCTION, table(['code', 'meaning'], rows));
}
