/**
 * Tokens by which processes of other machines join a run. Each can be used a number of times until it expires.
 * The coordinator keeps their hashes and who used them in a file, so that a restart forgets neither them nor whose
 * a worker's id is.
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
  /** The ids of the workers that have used it, by the hash of their public key. */
  users: Map<string, string>;
}

const MAX_TOKENS = 10_000;

function hashOf(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export class Tokens {
  readonly #kept = new Map<string, Kept>();
  /** Ids that workers have got, or tokens name. */
  readonly #names = new Set<string>();
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
      const name = typeof worker === 'string' ? worker : null;
      if (name !== null) this.#names.add(name);
      if (typeof token === 'string' && typeof uses === 'number' && typeof expires === 'number') {
        this.#kept.set(token, { uses, expires, worker: name, users: new Map() });
      } else if (typeof used === 'string' && typeof key === 'string') {
        // Earlier versions did not write the worker's id.
        this.#kept.get(used)?.users.set(key, name ?? '');
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
    if (worker !== null) this.#names.add(worker);
    this.#kept.set(hashOf(token), { uses, expires, worker, users: new Map() });
    this.#append({ token: hashOf(token), uses, expires_unix_seconds: expires, worker });
    return token;
  }

  /**
   * Uses a token for a public key, and returns the id of the worker whose key it is: that of the token, otherwise
   * the wanted one if nobody has it, or one like it. The same key may use it again, because the answer may have
   * been lost.
   *
   * @throws OrchestratorError ERR_TOKEN if the run did not issue it, or it has expired or has been used.
   */
  use(token: string, publicKey: Uint8Array, wanted: string): string {
    const kept = this.#kept.get(hashOf(token));
    if (kept === undefined) throw refusal('this run has issued no such token, or it has expired');
    const { uses, expires, worker, users } = kept;
    if (this.#now() / 1000 > expires) {
      throw refusal(`the token expired at ${new Date(expires * 1000).toISOString()}`);
    }
    const key = hashOf(publicKey);
    const known = users.get(key);
    if (known) return known;
    if (known === undefined && users.size >= uses) {
      throw refusal(
        `the token has been used ${uses === 1 ? 'already' : `${uses} times, as often as it may be`}`,
      );
    }
    const name = worker ?? this.#free(wanted);
    users.set(key, name);
    this.#names.add(name);
    this.#append({ used: hashOf(token), key, worker: name });
    return name;
  }

  /** An id that no other worker has got, also before a restart: nobody may take the place of another one. */
  #free(wanted: string): string {
    if (!this.#names.has(wanted)) return wanted;
    let number = 2;
    while (this.#names.has(`${wanted}-${number}`)) number++;
    return `${wanted}-${number}`;
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
