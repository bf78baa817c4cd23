/** Texts of others, made safe for terminals and logs. */

/** Most texts, which are told from others at once. */
const PLAIN = /^[\x20-\x7e]*$/;

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
  return printable(text, limit).replace(/[\n\t]/g, ' ');
}

/**
 * The same value, with every text in it made printable, also the keys of maps. What needs no change is not copied: a
 * message may have many parts.
 */
export function allPrintable<T>(value: T): T {
  if (typeof value === 'string') return printable(value) as T;
  if (Array.isArray(value)) {
    if (typeof value[0] === 'number') return value;
    const parts = value.map(allPrintable);
    return parts.every((part, index) => part === value[index]) ? value : (parts as T);
  }
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value)) return value;
  const entries = Object.entries(value);
  const parts = entries.map(([key, inner]) => [printableLine(key), allPrintable(inner)] as const);
  const isSame = parts.every(
    ([key, inner], index) => key === entries[index]![0] && inner === entries[index]![1],
  );
  return isSame ? value : (Object.fromEntries(parts) as T);
}
