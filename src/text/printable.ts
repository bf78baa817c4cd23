/** Texts of others, made safe for terminals and logs. */

/** Most texts, by far. */
const PLAIN = /^[\n\t -~]*$/;

/**
 * The text without characters that control terminals or hide what is written: control characters except line
 * feed and tab, Unicode's marks of direction and line separators. Of an escape sequence only the first
 * character is lost, so the rest is seen. Cut to `limit` characters.
 */
export function printable(text: string, limit = 4_096): string {
  if (text.length <= limit && PLAIN.test(text)) return text;
  const cut = text.length > limit ? `${text.slice(0, limit)}…` : text;
  return cut.replace(/(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, '');
}

/** The same on one line, for names: in a log, what follows a line feed would look like a message of its own. */
export function printableLine(text: string, limit?: number): string {
  const clean = printable(text, limit);
  return /[\n\t]/.test(clean) ? clean.replace(/[\n\t]/g, ' ') : clean;
}

/**
 * The same value, with every text in it made printable, also the keys of maps. Where nothing has to change, it is the
 * value itself: a coordinator gets thousands of messages a second.
 */
export function allPrintable<T>(value: T): T {
  if (typeof value === 'string') return printable(value) as T;
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value)) return value;
  if (Array.isArray(value)) return (typeof value[0] === 'number' ? value : printableItems(value)) as T;
  return printableValues(value);
}

/** Copied from the first item on that has to change. */
function printableItems(items: readonly unknown[]): readonly unknown[] {
  let copy: unknown[] | null = null;
  for (const [index, inner] of items.entries()) {
    const clean = allPrintable(inner);
    if (clean !== inner) copy ??= items.slice();
    if (copy !== null) copy[index] = clean;
  }
  return copy ?? items;
}

/** Copied from the first key or value on that has to change. */
function printableValues<T extends object>(value: T): T {
  let pairs: [string, unknown][] | null = null;
  for (const [index, key] of Object.keys(value).entries()) {
    const inner: unknown = value[key as keyof T];
    const [name, clean] = [printableLine(key), allPrintable(inner)];
    if (name !== key || clean !== inner) pairs ??= Object.entries(value).slice(0, index);
    pairs?.push([name, clean]);
  }
  return pairs === null ? value : (Object.fromEntries(pairs) as T);
}
