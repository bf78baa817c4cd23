/**
 * The certificate authority of a run: ECDSA P-256, made when the run first listens on a network. Node.js reads
 * certificates but does not issue them, so a package does.
 */
import 'reflect-metadata';
import { createHash, createPrivateKey, randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import {
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  X509Certificate as IssuedCertificate,
  KeyUsageFlags,
  KeyUsagesExtension,
  PublicKey,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { OrchestratorError } from '../errors.js';
import { type Certified, type Identity, uriOf } from './identity.js';
import { newKey } from './keys.js';

type Crypto = Parameters<typeof cryptoProvider.set>[0];
cryptoProvider.set(webcrypto as unknown as Crypto);

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const DAY_MS = 86_400_000;
/** Clocks differ, and who belongs to a run is decided by its coordinator, not by a clock. */
const VALID_MS = { before: DAY_MS, after: 3_650 * DAY_MS };

/** What is kept of an authority. */
export interface StoredAuthority {
  key: string;
  certificate: string;
}

const NAME = 'orchestrator run ';

export class Authority {
  readonly stored: StoredAuthority;
  readonly #key: webcrypto.CryptoKey;

  private constructor(stored: StoredAuthority, key: webcrypto.CryptoKey) {
    this.stored = stored;
    this.#key = key;
  }

  /** The authority of a new run. */
  static async create(): Promise<Authority> {
    const run = randomBytes(8).toString('hex');
    const { privateKey, publicKey } = newKey();
    const key = await signingKey(privateKey);
    const certificate = await X509CertificateGenerator.create({
      ...(await common(publicKey)),
      subject: `CN=${NAME}${run}`,
      issuer: `CN=${NAME}${run}`,
      signingKey: key,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
      ],
    });
    return new Authority({ key: privateKey, certificate: pem(certificate) }, key);
  }

  /** @throws OrchestratorError ERR_TOKEN if it is damaged. */
  static async open(stored: StoredAuthority): Promise<Authority> {
    try {
      if (!new X509Certificate(stored.certificate).checkPrivateKey(createPrivateKey(stored.key))) {
        throw new Error('its key is not that of its certificate');
      }
      return new Authority(stored, await signingKey(stored.key));
    } catch (cause) {
      throw new OrchestratorError(
        'ERR_TOKEN',
        `The authority of the run is damaged: ${(cause as Error).message}`,
        { hint: 'Remove the folder `secrets` of the run: it gets another one', cause },
      );
    }
  }

  /** The run whose authority it is. */
  get run(): string {
    return new X509Certificate(this.stored.certificate).subject.slice(`CN=${NAME}`.length);
  }

  /** By which others know the authority. */
  get fingerprint(): string {
    return fingerprintOf(new X509Certificate(this.stored.certificate));
  }

  /**
   * A certificate for a public key.
   *
   * @param publicKey DER (SubjectPublicKeyInfo) of a P-256 key.
   */
  async issue(identity: Omit<Identity, 'run'>, publicKey: Uint8Array): Promise<string> {
    const { run } = this;
    const { certificate } = this.stored;
    const issued = await X509CertificateGenerator.create({
      ...(await common(publicKey)),
      subject: `CN=${identity.role}`,
      issuer: new IssuedCertificate(certificate).subject,
      signingKey: this.#key,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
        new SubjectAlternativeNameExtension([{ type: 'url', value: uriOf({ run, ...identity }) }], true),
      ],
    });
    return pem(issued);
  }

  /** The coordinator's own identity. */
  async coordinator(): Promise<Certified> {
    const identity = { role: 'coordinator', id: '' } as const;
    const { privateKey, publicKey } = newKey();
    return {
      identity: { run: this.run, ...identity },
      key: privateKey,
      certificate: await this.issue(identity, publicKey),
      authority: this.stored.certificate,
    };
  }
}

/** SHA-256 of a certificate, in lower-case hexadecimal. */
function fingerprintOf({ raw }: X509Certificate): string {
  return createHash('sha256').update(raw).digest('hex');
}

function signingKey(privateKey: string): Promise<webcrypto.CryptoKey> {
  const der = createPrivateKey(privateKey).export({ type: 'pkcs8', format: 'der' });
  return webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign']);
}

async function common(publicKey: Uint8Array) {
  const now = Date.now();
  return {
    serialNumber: `00${randomBytes(16).toString('hex')}`,
    notBefore: new Date(now - VALID_MS.before),
    notAfter: new Date(now + VALID_MS.after),
    signingAlgorithm: ALGORITHM,
    publicKey: new PublicKey(publicKey),
  };
}

function pem(certificate: IssuedCertificate): string {
  return `${certificate.toString('pem')}\n`;
}
