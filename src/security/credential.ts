/** What a worker needs to join a run: one line, which is given on standard input or in a file of its own. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { OrchestratorError } from '../errors.js';
import { readFailure } from '../files/io.js';
import { othersCanRead } from './readers.js';

/** On the coordinator's machine: its socket, which the kernel guards. There is no secret. */
interface LocalCredential {
  address: string;
  enrolment: null;
}

/** Elsewhere: a token, and the fingerprint by which the coordinator is known. */
export interface RemoteCredential {
  /** host:port */
  address: string;
  enrolment: {
    token: string;
    /** SHA-256 of the certificate of the run's authority, in hexadecimal. */
    fingerprint: string;
  };
}

export type Credential = LocalCredential | RemoteCredential;

/** With it every address within a machine begins, as gRPC has them. */
export const ABSTRACT = 'unix-abstract:';
/** With it every credential for other machines begins. */
const REMOTE_PREFIX = 'orch1.';
const MAX_BYTES = 4_096;
/** What follows the prefix. The length of a token is that of 32 bytes. */
const REMOTE = /^([\w-]{43})\.([0-9a-f]{64})@((?:\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\]|[\w.-]+):\d{1,5})$/;

export function formatCredential({ address, enrolment }: Credential): string {
  return enrolment === null
    ? address
    : `${REMOTE_PREFIX}${enrolment.token}.${enrolment.fingerprint}@${address}`;
}

/**
 * @param place Where the text is from, for messages, which never show the text itself.
 * @throws OrchestratorError ERR_TOKEN
 */
export function parseCredential(text: string, place: string): Credential {
  const line = text.trim();
  if (line.startsWith(ABSTRACT) && !/\s/.test(line)) return { address: line, enrolment: null };
  const match = line.startsWith(REMOTE_PREFIX) ? REMOTE.exec(line.slice(REMOTE_PREFIX.length)) : null;
  if (match === null) {
    throw new OrchestratorError(
      'ERR_TOKEN',
      `${place} holds no credential: expected one line, ${REMOTE_PREFIX}TOKEN.FINGERPRINT@HOST:PORT`,
      '`orchestrator invite RUN` prints one',
    );
  }
  const [, token, fingerprint, address] = match;
  return { address: address!, enrolment: { token: token!, fingerprint: fingerprint! } };
}

/**
 * Reads a credential from a file, or from standard input ("-").
 *
 * @param warn Gets what is wrong though it is read: others can read the secret, too.
 * @throws OrchestratorError ERR_TOKEN, or ERR_FILE_OPEN where it cannot be read.
 */
export function readCredential(path: string, warn: (message: string) => void): Credential {
  if (path.startsWith(REMOTE_PREFIX)) {
    throw new OrchestratorError(
      'ERR_TOKEN',
      '--credential takes a file, or - for standard input, and no credential, which is a secret',
      '`orchestrator invite RUN` prints another one: on a command line every user of the machine can read it',
    );
  }
  const place = path === '-' ? 'standard input' : path;
  const { text, exposed } = readSecret(path, place);
  const credential = parseCredential(text.length > MAX_BYTES ? '' : text, place);
  if (credential.enrolment !== null && exposed !== null) warn(exposed);
  return credential;
}

/** A text from a file or standard input, and why others can read it; null: they cannot. */
function readSecret(path: string, place: string): { text: string; exposed: string | null } {
  let opened: number | null = null;
  try {
    const fd = path === '-' ? 0 : openSync(path, 'r');
    if (fd !== 0) opened = fd;
    return { text: readFileSync(fd, 'utf8'), exposed: othersCanRead(fd) };
  } catch (error) {
    throw readFailure('read', place, error);
  } finally {
    if (opened !== null) closeSync(opened);
  }
}
