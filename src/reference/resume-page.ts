/** Generates docs/reference/resume.md from the table of what may change at resume. */
import { EMA_OFF, EMA_ON, RESUME_RULES, type ResumeRule } from '../config/resume.js';
import { code, page, table } from './markdown.js';

const INTRODUCTION = `A run is resumed by the command that started it, or by one with other values. The values of its checkpoint and those of the command are
compared key by key; every difference is printed. A refused run changes nothing in its folder.

- *applies*: the new value counts from the next step on.
- *same data*: the value may change if it leads to the same data set, which is compared by its hash; with \`--allow-data-change\` also to one that
  was corrected or extended ([how](../guide/data.md#data-that-change)).
- *ignored*: the value has no effect on a run that is resumed.
- *refused*: the run does not begin. Go on with the value of the run, or start a new run from its weights with \`--set init=CHECKPOINT\` in another
  \`--run-dir\`.
- *kept*: a key that is not set keeps the value that it has in the run, whatever its default is or was.

A row counts for all keys below its own that have no row.`;

export function resumePage(): string {
  const row = (key: string, { change, why, kept }: ResumeRule) => [key, change + (kept ? ', kept' : ''), why];
  const rows = Object.entries(RESUME_RULES).map(([key, rule]) => row(code(key), rule));
  const ema = [row(`${code('ema')}, switched off`, EMA_OFF), row(`${code('ema')}, switched on`, EMA_ON)];
  const header = ['key', 'another value', 'what follows, or why'];
  return page(
    'What may change at resume',
    'src/config/resume.ts',
    INTRODUCTION,
    table(header, [...rows, ...ema]),
  );
}
