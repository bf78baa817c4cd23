/** JSON: reading and validating small files, and a canonical text for equal values. */
import type { z } from 'zod';
import { OrchestratorError } from '../errors.js';
import { FileReader } from './reader.js';

export type Mapping = Record<string, unknown>;

export function isMapping(value: unknown): value is Mapping {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** JSON with the keys of every mapping sorted and without spaces, so that equal values give equal bytes. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (isMapping(value)) {
    const entries = Object.keys(value)
      .sort()
      .map((key) => `${JSON.stringify(key)}:${canonicalJson(value[key])}`);
    return `{${entries.join(',')}}`;
  }
  return JSON.stringify(value);
}

/** The value of a text; null: it is no JSON, or says null. What it holds is for the caller to check. */
export function jsonOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Largest metadata file that is read; the project's own are far smaller. */
const MAX_JSON_BYTES = 64 * 2 ** 20;

/** Reads and validates a JSON file. ERR_DATA_FORMAT says what was expected for each wrong key. */
export function readJson<T>(path: string, schema: z.ZodType<T>): T {
  const bytes = FileReader.using(path, (reader) => {
    if (reader.bytes <= MAX_JSON_BYTES) return reader.read(0, reader.bytes, 'its text');
    throw new OrchestratorError('ERR_DATA_FORMAT', `${path} has ${reader.bytes} bytes: not a metadata file`);
  });
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    const message = `${path} is not valid JSON: ${(cause as Error).message}`;
    throw new OrchestratorError('ERR_DATA_FORMAT', message, { cause });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues
    .slice(0, 5)
    .map((issue) => `${issue.path.length ? issue.path.join('.') : '(top level)'}: ${issue.message}`);
  throw new OrchestratorError('ERR_DATA_FORMAT', `${path} is malformed: ${problems.join('; ')}`);
}
