/** Keys of certificates. */
import { createPublicKey, generateKeyPairSync } from 'node:crypto';

/** A new P-256 key: the private one as PEM, the public one as DER. It takes well below a millisecond. */
export function newKey(): { privateKey: string; publicKey: Buffer } {
  return generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'der' },
  });
}

/** Whether these are the bytes of a P-256 public key, as DER. */
export function isPublicKey(der: Uint8Array): boolean {
  try {
    const key = createPublicKey({ key: Buffer.from(der), type: 'spki', format: 'der' });
    return key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
  } catch {
    return false;
  }
}
