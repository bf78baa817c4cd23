/**
 * Tokens by which processes of other machines join a run. Each can be used a number of times until it expires.
 * The coordinator keeps their hashes and who used them in a file, so that a restart forgets neither.
 */
import { createHash, randomBytes } from 'node:crypto';
import { OrchestratorError } from '../errors.js';
import { JsonlFile, leadingLines } from '../files/jsonl.js';

export interface TokenRules {
  /** How many processes may join with it. */
  uses: number;
  seconds: number;
  /** The worker whose token it is; null: whoever joins with it names itself. */
  worker: string | null;
}

interface Kept {
  uses: number;
  expires: number;
  worker: string | null;
  /** Hashes of the public keys for which it was used. */
  keys: Set<string>;
}

const MAX_TOKENS = 10_000;

function hashOf(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export class Tokens {
  readonly #kept = new Map<string, Kept>();
  readonly #file: JsonlFile;
  readonly #now: () => number;

  /**
   * @param path The file, which is read if it exists.
   * @param now Milliseconds since 1970.
   */
  constructor(path: string, now: () => number = Date.now) {
    this.#now = now;
    leadingLines(path, (line) => {
      const { token, uses, expires_unix_seconds: expires, worker, used, key } = line;
      if (typeof token === 'string' && typeof uses === 'number' && typeof expires === 'number') {
        const of = typeof worker === 'string' ? worker : null;
        this.#kept.set(token, { uses, expires, worker: of, keys: new Set() });
      } else if (typeof used === 'string' && typeof key === 'string') {
        this.#kept.get(used)?.keys.add(key);
      }
      return true;
    });
    this.#file = new JsonlFile(path);
  }

  /** A new token. Only its hash is kept. */
  issue({ uses, seconds, worker }: TokenRules): string {
    const now = this.#now() / 1000;
    for (const [hash, { expires }] of this.#kept) if (expires < now) this.#kept.delete(hash);
    if (this.#kept.size >= MAX_TOKENS) {
      throw new OrchestratorError('ERR_TOKEN', `${MAX_TOKENS} tokens of this run have not expired yet`);
    }
    const token = randomBytes(32).toString('base64url');
    const expires = now + seconds;
    this.#kept.set(hashOf(token), { uses, expires, worker, keys: new Set() });
    this.#append({ token: hashOf(token), uses, expires_unix_seconds: expires, worker });
    return token;
  }

  /**
   * Uses a token for a public key, and returns the worker whose token it is, or null. The same key may use it
   * again, because the answer may have been lost.
   *
   * @throws OrchestratorError ERR_TOKEN if the run did not issue it, or it has expired or has been used.
   */
  use(token: string, publicKey: Uint8Array): string | null {
    const kept = this.#kept.get(hashOf(token));
    if (kept === undefined) throw refusal('this run has issued no such token, or it has expired');
    const { uses, expires, worker, keys } = kept;
    if (this.#now() / 1000 > expires) {
      throw refusal(`the token expired at ${new Date(expires * 1000).toISOString()}`);
    }
    const key = hashOf(publicKey);
    if (!keys.has(key)) {
      if (keys.size >= uses) {
        throw refusal(
          `the token has been used ${uses === 1 ? 'already' : `${uses} times, as often as it may be`}`,
        );
      }
      keys.add(key);
      this.#append({ used: hashOf(token), key });
    }
    return worker;
  }

  close(): void {
    this.#file.close();
  }

  #append(line: object): void {
    this.#file.append(line);
    this.#file.sync();
  }
}

function refusal(why: string): OrchestratorError {
  return new OrchestratorError('ERR_TOKEN', why, '`orchestrator invite RUN` prints a new credential');
}
