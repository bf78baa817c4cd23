/**
 * How a process of another machine becomes a member of a run: it makes a key, connects by TLS to the coordinator,
 * which it knows by the fingerprint in its credential, presents its token and its public key, and gets a
 * certificate. One line of JSON each way. Until then it can reach nothing else.
 */

import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { z } from 'zod';
import { OrchestratorError } from '../errors.js';
import { jsonOrNull } from '../files/json.js';
import { printable, printableLine } from '../text/printable.js';
import type { Authority } from './authority.js';
import type { RemoteCredential } from './credential.js';
import { type Certified, handshake, identityOf, VERSION } from './identity.js';
import { isPublicKey, type KeyPair } from './keys.js';
import type { Tokens } from './tokens.js';

/** The protocol (ALPN) of enrolment. */
export const ENROLMENT_PROTOCOL = 'orchestrator-enrolment';
/** The longest request or answer, in characters. */
const MAX_LINE = 4_096;
const DEADLINE_MS = 5_000;
const MAX_ID = 128;

const requestSchema = z.object({
  /** The version of the messages of a run. */
  protocol: z.number(),
  token: z.string(),
  /** The id that the process wants. */
  worker: z.string().min(1).max(MAX_ID),
  /** DER, in base64. */
  key: z.string(),
});

const answerSchema = z.union([
  z.object({ worker: z.string(), run: z.string(), certificate: z.string(), authority: z.string() }),
  z.object({ code: z.enum(['ERR_TOKEN', 'ERR_PROTOCOL']), refused: z.string() }),
]);

/** What a process has after its enrolment. */
export interface Enrolled {
  own: Certified;
  /** The address of this machine from which the coordinator was reached. */
  localHost: string;
}

/** A refusal, which trying again does not change. */
class Refused extends OrchestratorError {}

/**
 * Enrols this process at the coordinator, once. Errors of the network are passed on; what the coordinator
 * refuses, and another coordinator than the credential's, are OrchestratorErrors.
 *
 * @param key The same each time it is tried: a token that was used, but whose answer was lost, is used again.
 */
export async function enrol(
  { address, enrolment: { token, fingerprint } }: RemoteCredential,
  { worker, protocol, key, socket }: { worker: string; protocol: number; key: KeyPair; socket: Socket },
): Promise<Enrolled> {
  const secured = connectTls({
    socket,
    ALPNProtocols: [ENROLMENT_PROTOCOL],
    ...VERSION,
    // The certificate is checked below, by the fingerprint of who issued it.
    rejectUnauthorized: false,
  });
  secured.setTimeout(DEADLINE_MS, () => secured.destroy(new Error('no answer')));
  try {
    await handshake(secured);
    const why = strangerOf(secured, fingerprint);
    if (why !== null) {
      throw new Refused(
        'ERR_TOKEN',
        `Whoever listens at ${address} is not the coordinator of this credential: ${why}`,
        'The credential is of another run, or the address leads to another machine: `orchestrator invite RUN` prints a new one',
      );
    }
    const { privateKey, publicKey } = key;
    secured.write(`${JSON.stringify({ protocol, token, worker, key: publicKey.toString('base64') })}\n`);
    const answer = answerSchema.safeParse(jsonOrNull(await readLine(secured)));
    if (!answer.success) throw new Error('the answer to the enrolment is malformed');
    if ('refused' in answer.data) {
      const { code, refused } = answer.data;
      const hint = code === 'ERR_TOKEN' ? '`orchestrator invite RUN` prints a new credential' : null;
      throw new Refused(
        code,
        `The coordinator at ${address} refused this worker: ${printable(refused)}`,
        hint,
      );
    }
    const { worker: id, run, certificate, authority } = answer.data;
    return {
      own: { identity: { run, role: 'worker', id }, key: privateKey, certificate, authority },
      localHost: socket.localAddress!,
    };
  } finally {
    secured.destroy();
  }
}

/** Why the other side is not the coordinator of the run with this fingerprint; null if it is. */
function strangerOf(socket: TLSSocket, fingerprint: string): string | null {
  const leaf = socket.getPeerX509Certificate();
  const issuer = leaf?.issuerCertificate;
  if (leaf === undefined || issuer === undefined) return 'it presents no certificate of a run';
  const found = createHash('sha256').update(issuer.raw).digest('hex');
  if (found !== fingerprint) return 'its certificate is of another authority';
  if (!leaf.checkIssued(issuer) || !leaf.verify(issuer.publicKey)) return 'its certificate is forged';
  return identityOf(leaf)?.role === 'coordinator' ? null : 'its certificate is not for a coordinator';
}

/** The serving side. */
export class Enrolments {
  readonly #options: { authority: Authority; tokens: Tokens; protocol: number };

  constructor(options: { authority: Authority; tokens: Tokens; protocol: number }) {
    this.#options = options;
  }

  /** Answers on a connection without a certificate, and ends it. Resolves with what was refused; null: nothing. */
  async answer(socket: TLSSocket): Promise<string | null> {
    const timer = setTimeout(() => socket.destroy(), DEADLINE_MS);
    try {
      const answer = await this.#answerTo(await readLine(socket));
      // What else it sends is not read.
      socket.end(`${JSON.stringify(answer)}\n`, () => socket.destroy());
      return 'refused' in answer ? answer.refused : null;
    } catch (error) {
      socket.destroy();
      return (error as Error).message;
    } finally {
      socket.once('close', () => clearTimeout(timer));
    }
  }

  async #answerTo(line: string): Promise<z.input<typeof answerSchema>> {
    const { authority, tokens, protocol } = this.#options;
    const request = requestSchema.safeParse(jsonOrNull(line));
    if (!request.success) throw new Error('a malformed request to enrol');
    const { protocol: theirs, token, worker: wanted, key } = request.data;
    if (theirs !== protocol) {
      const refused = `its protocol is ${theirs}, that of the coordinator is ${protocol}: mixed versions of orchestrator`;
      return { code: 'ERR_PROTOCOL', refused };
    }
    const publicKey = Buffer.from(key, 'base64');
    if (!isPublicKey(publicKey)) throw new Error('a request to enrol without a P-256 key');
    const name = printableLine(wanted, MAX_ID);
    if (name === '') throw new Error('a request to enrol under a name without a character');
    let worker: string;
    try {
      worker = tokens.use(token, publicKey, name);
    } catch (error) {
      return { code: 'ERR_TOKEN', refused: (error as Error).message };
    }
    const certificate = await authority.issue({ role: 'worker', id: worker }, publicKey);
    return { worker, run: authority.run, certificate, authority: authority.stored.certificate };
  }
}

/** The first line that arrives. Nothing after it is read, and so nothing else can fill the memory. */
async function readLine(socket: TLSSocket): Promise<string> {
  return await new Promise((resolve, reject) => {
    let text = '';
    const take = (piece: string) => {
      text += piece;
      const end = text.indexOf('\n');
      if (end < 0 && text.length <= MAX_LINE) return;
      socket.off('data', take).pause();
      if (end >= 0 && end <= MAX_LINE) resolve(text.slice(0, end));
      else reject(new Error(`a line of more than ${MAX_LINE} characters`));
    };
    socket.setEncoding('utf8');
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('the connection ended before a line was complete')));
    socket.on('data', take);
  });
}
