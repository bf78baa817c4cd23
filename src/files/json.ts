/** JSON: reading and validating small files, and a canonical text for equal values. */
import { readFileSync } from 'node:fs';
import type { z } from 'zod';
import { OrchestratorError } from '../errors.js';
import { readFailure } from './io.js';

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

/** Largest metadata file that is read; the project's own are far smaller. */
const MAX_JSON_BYTES = 64 * 2 ** 20;

/**
 * Parses a JSON file.
 *
 * @throws OrchestratorError ERR_FILE_OPEN, ERR_DATA_FORMAT: both name the file.
 */
export function readJson(path: string): unknown {
  let text: Buffer;
  try {
    text = readFileSync(path);
  } catch (cause) {
    throw readFailure('read', path, cause);
  }
  if (text.length > MAX_JSON_BYTES) {
    throw new OrchestratorError('ERR_DATA_FORMAT', `${path} has ${text.length} bytes: not a metadata file`);
  }
  try {
    return JSON.parse(text.toString('utf8'));
  } catch (cause) {
    throw new OrchestratorError('ERR_DATA_FORMAT', `${path} is not valid JSON: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/**
 * Validates parsed JSON.
 *
 * @throws OrchestratorError ERR_DATA_FORMAT: names the file, and for each wrong key what was expected.
 */
export function parseJson<T>(path: string, schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues
    .slice(0, 5)
    .map((issue) => `${issue.path.length ? issue.path.join('.') : '(top level)'}: ${issue.message}`);
  throw new OrchestratorError('ERR_DATA_FORMAT', `${path} is malformed: ${problems.join('; ')}`);
}
