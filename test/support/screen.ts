/** What a terminal shows of what is written to it, as far as the live table uses terminals. */

const ESCAPE = '\u001b';
/** A control sequence, or one character. */
const TOKENS = new RegExp(`${ESCAPE}\\[(?<count>\\d*)(?<verb>[A-Za-z])|(?<character>.)`, 'gsu');

/** The rows of a terminal of `columns` columns, those that have scrolled away included. */
export class Screen {
  readonly #columns: number;
  readonly #rows: string[][] = [[]];
  #row = 0;
  #column = 0;

  constructor(columns: number) {
    this.#columns = columns;
  }

  get rows(): string[] {
    return this.#rows.map((row) =>
      Array.from(row, (cell) => cell ?? ' ')
        .join('')
        .trimEnd(),
    );
  }

  write(text: string): void {
    for (const { groups } of text.matchAll(TOKENS)) {
      const { count, verb, character } = groups as Record<string, string | undefined>;
      if (verb !== undefined) this.#control(verb, Number(count || 0));
      else if (character === '\n') this.#down(0);
      else if (character === '\r') this.#column = 0;
      else this.#put(character!);
    }
  }

  /** After the last column the cursor stays there until the next character, as on every terminal. */
  #put(character: string): void {
    if (this.#column === this.#columns) this.#down(0);
    this.#rows[this.#row]![this.#column++] = character;
  }

  #down(column: number): void {
    this.#row++;
    this.#column = column;
    this.#rows[this.#row] ??= [];
  }

  #control(verb: string, count: number): void {
    const row = this.#rows[this.#row]!;
    if (verb === 'A') this.#row = Math.max(0, this.#row - count);
    else if (verb === 'J') this.#rows.splice(this.#row, Infinity, row.slice(0, this.#column));
    else if (verb === 'K' && count === 2) row.fill(' ');
    // xterm erases the last character of a full row.
    else if (verb === 'K') row.length = Math.min(this.#column, this.#columns - 1, row.length);
    else throw new Error(`The screen of tests does not know ESC [ ${verb}`);
  }
}
