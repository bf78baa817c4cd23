/** The folder `secrets` of a run. Only the user of the run can read it. */
import { chmodSync, closeSync, lstatSync, mkdirSync, openSync, rmdirSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { errnoOf, textOrNull, writeFailure } from '../files/io.js';
import { splitAddress } from '../rpc/address.js';
import type { Authority, StoredAuthority } from '../security/authority.js';
import { Tokens } from '../security/tokens.js';

const SECRETS = 'secrets';
/** The credential of workers of this machine, while the run is in progress. */
const CREDENTIAL = 'credential';
const AUTHORITY = 'authority.pem';
const AUTHORITY_KEY = 'authority.key';
const TOKENS = 'tokens.jsonl';
/**
 * The port at which workers of other machines reached the last coordinator. Those that have heard nothing of its end look
 * for the next one there.
 */
const PORT = 'port';

/** The credential of workers of the coordinator's machine; null if nothing runs in the folder. */
export function localCredential(runDir: string): string | null {
  return textOrNull(join(runDir, SECRETS, CREDENTIAL));
}

/**
 * Whether a process of another machine sees the run folder: it finds the certificate of the authority by which it
 * is a member.
 */
export function seesRunFolder(runDir: string, authority: string): boolean {
  return textOrNull(join(runDir, SECRETS, AUTHORITY)) === authority;
}

export class Secrets {
  readonly #folder: string;
  readonly #isNew: boolean = true;
  /** The port of the coordinator before; null: there was none. */
  readonly #formerPort: string | null;
  #tokens: Tokens | null = null;

  /** Makes the folder. */
  constructor(runDir: string) {
    this.#folder = join(runDir, SECRETS);
    try {
      mkdirSync(this.#folder, { mode: 0o700 });
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw writeFailure(this.#folder, error);
      this.#isNew = false;
      // Others may have put something else there, to have files somewhere else written.
      const stat = lstatSync(this.#folder);
      if (!stat.isDirectory() || stat.uid !== process.geteuid!()) {
        throw this.#unusable('it is not a folder of this user');
      }
    }
    this.#formerPort = textOrNull(join(this.#folder, PORT));
  }

  /** The address at which a coordinator listened that has died; null: there was none. */
  published(): string | null {
    return textOrNull(join(this.#folder, CREDENTIAL));
  }

  /** Keeps the credential of workers of this machine until the run ends. */
  publish(credential: string): void {
    this.#write(CREDENTIAL, credential);
  }

  /** What a run on a network needs: its authority and its tokens, those of the run's earlier processes or new ones. */
  async network(): Promise<{ authority: Authority; tokens: Tokens }> {
    this.#checkPrivate();
    // It is not loaded for runs on one machine: that takes a tenth of a second.
    const { Authority } = await import('../security/authority.js');
    const stored = this.#stored();
    const authority = stored === null ? await Authority.create() : await Authority.open(stored);
    if (stored === null) {
      this.#write(AUTHORITY_KEY, authority.stored.key);
      this.#write(AUTHORITY, authority.stored.certificate);
    }
    this.#write(TOKENS, '', 'a');
    this.#tokens = new Tokens(join(this.#folder, TOKENS));
    return { authority, tokens: this.#tokens };
  }

  /** Where to listen: with port 0, at the port of the coordinator before. */
  formerPort(listen: string): string {
    const { host, port } = splitAddress(listen);
    const former = Number(this.#formerPort ?? 0);
    return port === 0 && Number.isInteger(former) && former > 0 && former < 65536
      ? `${host}:${former}`
      : listen;
  }

  keepPort(port: number): void {
    this.#write(PORT, String(port));
  }

  /** @param begun Whether there is a run to go on with; otherwise nothing is left that was not there before. */
  close(begun: boolean): void {
    this.#tokens?.close();
    const all = this.#isNew && !begun;
    // Workers that have heard nothing of the end of the run before look for the next one at its port.
    const forgotten = !begun && this.#formerPort === null;
    const names = forgotten ? [CREDENTIAL, PORT] : [CREDENTIAL];
    const removed = all ? [this.#folder] : names.map((name) => join(this.#folder, name));
    for (const path of removed) rmSync(path, { recursive: true, force: true });
    try {
      rmdirSync(this.#folder);
    } catch {
      // It keeps the authority and the tokens for the next time, or is gone.
    }
  }

  #stored(): StoredAuthority | null {
    const [certificate, key] = [AUTHORITY, AUTHORITY_KEY].map((name) => textOrNull(join(this.#folder, name)));
    return certificate && key ? { certificate, key } : null;
  }

  /** The authority's key must not be where others read it: on a file system without permissions, for example. */
  #checkPrivate(): void {
    let mode: number;
    try {
      chmodSync(this.#folder, 0o700);
      ({ mode } = lstatSync(this.#folder));
    } catch (error) {
      throw writeFailure(this.#folder, error);
    }
    if ((mode & 0o077) !== 0) {
      throw this.#unusable('others can read it, and its file system does not let that be changed');
    }
  }

  #unusable(reason: string): OrchestratorError {
    return new OrchestratorError(
      'ERR_RUN_DIR',
      `${this.#folder} cannot keep the secrets of the run: ${reason}`,
      'Choose another --run-dir, or remove that folder',
    );
  }

  /** Writes a file that only this user can read. What others may have put there is not written through. */
  #write(name: string, text: string, flag: 'wx' | 'a' = 'wx'): void {
    const path = join(this.#folder, name);
    try {
      if (flag === 'wx') rmSync(path, { force: true });
      const fd = openSync(path, flag, 0o600);
      try {
        writeSync(fd, text);
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      throw writeFailure(path, error);
    }
  }
}
