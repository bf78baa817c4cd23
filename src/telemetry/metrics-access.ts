/** Who may read the metrics port: by the `Host` of a request on loopback, and by a bearer token where one is set. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import { OrchestratorError } from '../errors.js';
import { withHome } from '../files/home.js';
import { readFailure } from '../files/io.js';

const MAX_TOKEN = 4_096;
const LOOPBACK = /^(localhost|127(?:\.\d{1,3}){3}|\[::1\]|::1)$/i;

interface Refusal {
  status: 401 | 403;
  headers: OutgoingHttpHeaders;
  text: string;
}

/** Whether only processes of this machine reach an address. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host);
}

/**
 * Why a request is not answered; null if it is. On loopback it must be addressed to this machine: a page in the
 * browser of its user may make a name of its own lead here (DNS rebinding), but the browser then sends that name.
 */
export function strangeHost(listens: string, { headers }: Pick<IncomingMessage, 'headers'>): Refusal | null {
  const { host } = headers;
  if (!isLoopback(listens) || host === undefined || isLoopback(host.replace(/:\d*$/, ''))) return null;
  const text = 'ask for localhost or 127.0.0.1: the metrics are for this machine\n';
  return { status: 403, headers: {}, text };
}

/** The same for a request that must bear the token; null: there is none. */
export function withoutToken(
  token: string | null,
  { headers }: Pick<IncomingMessage, 'headers'>,
): Refusal | null {
  if (token === null) return null;
  const [, given] = /^Bearer +(\S+)$/i.exec(headers.authorization ?? '') ?? [];
  // Digests have the same length, and comparing them takes the same time whatever was given.
  const digest = (text: string) => createHash('sha256').update(text).digest();
  if (given !== undefined && timingSafeEqual(digest(given), digest(token))) return null;
  const text = 'the metrics need the token of telemetry.metrics_token_file\n';
  return { status: 401, headers: { 'www-authenticate': 'Bearer realm="metrics"' }, text };
}

/** The token in a file. */
export function readMetricsToken(path: string): string {
  let text: string;
  try {
    text = readFileSync(withHome(path), 'utf8').trim();
  } catch (error) {
    throw readFailure('read', path, error);
  }
  if (/^[\x21-\x7e]+$/.test(text) && text.length <= MAX_TOKEN) return text;
  throw new OrchestratorError(
    'ERR_TOKEN',
    `telemetry.metrics_token_file: ${path} holds no token: expected one line of up to ${MAX_TOKEN} letters, digits and signs`,
    `openssl rand -hex 32 > ${path} makes one`,
  );
}
