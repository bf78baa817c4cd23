/** Keys of certificates. */
import { createPublicKey, generateKeyPairSync } from 'node:crypto';

export interface KeyPair {
  /** PEM */
  privateKey: string;
  /** DER */
  publicKey: Buffer;
}

/** A new P-256 key. It takes well below a millisecond. */
export function newKey(): KeyPair {
  return generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'der' },
  });
}

/** What precedes the point in the DER of every P-256 public key (RFC 5480), with the point uncompressed. */
const PREFIX = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d030107034200', 'hex');
const POINT_BYTES = 65;

/**
 * Whether these are the bytes of a P-256 public key, as DER. Strangers send them, so OpenSSL gets no other kind of
 * key and no curve by parameters to parse.
 */
export function isPublicKey(der: Buffer): boolean {
  if (der.length !== PREFIX.length + POINT_BYTES || !der.subarray(0, PREFIX.length).equals(PREFIX))
    return false;
  try {
    // It refuses a point that is not on the curve.
    createPublicKey({ key: der, type: 'spki', format: 'der' });
    return true;
  } catch {
    return false;
  }
}
