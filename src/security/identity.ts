/** Who is who in a run: each process that is reached over a network has a certificate of the run's authority. */
import { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';

export interface Identity {
  /** The run whose authority has issued the certificate. */
  run: string;
  role: 'coordinator' | 'worker';
  /** The worker's id; '' for the coordinator. */
  id: string;
}

/** What a process proves its identity with: PEM texts. */
export interface Certified {
  identity: Identity;
  key: string;
  certificate: string;
  /** The certificate of the run's authority. Nobody else's are believed. */
  authority: string;
}

const SCHEME = 'orchestrator://';

/** The identity as a URI, which is the certificate's only subjectAltName, as SPIFFE has it. */
export function uriOf({ run, role, id }: Identity): string {
  return `${SCHEME}${run}/${role}${id === '' ? '' : `/${encodeURIComponent(id)}`}`;
}

/** The identity in a certificate whose signature has been verified; null if there is none. */
export function identityOf(certificate: X509Certificate): Identity | null {
  const match = /^URI:orchestrator:\/\/([^/,]+)\/(coordinator|worker)(?:\/([^/,]+))?$/.exec(
    certificate.subjectAltName ?? '',
  );
  if (match === null) return null;
  const [, run, role, id = ''] = match;
  try {
    return { run: run!, role: role as Identity['role'], id: decodeURIComponent(id) };
  } catch {
    return null;
  }
}

/** The identity of the other side of a connection whose handshake is over; null if the authority vouches for none. */
export function peerOf(socket: TLSSocket): Identity | null {
  const certificate = socket.authorized ? socket.getPeerX509Certificate() : undefined;
  return certificate === undefined ? null : identityOf(certificate);
}

/** Only this version: the certificates are encrypted, and there is nothing to choose between. */
export const VERSION = { minVersion: 'TLSv1.3' } as const;

/** Options of TLS for both sides of a connection. The other side gets the authority's certificate, too, to pin it. */
export function tlsOptions({ key, certificate, authority }: Certified) {
  return { key, cert: `${certificate}${authority}`, ca: authority, ...VERSION };
}

/** Who answers is not who was expected: trying again does not help. */
export class WrongPeer extends Error {}

/** The protocol (ALPN) of everything but enrolment. */
export const MEMBER_PROTOCOL = 'h2';

/**
 * Proves this process's identity on a connection that was just established, and checks the other side's; rejects
 * unless it is the expected one.
 */
export async function proveIdentity(socket: Socket, own: Certified, expected: Identity): Promise<TLSSocket> {
  const secured = connectTls({
    socket,
    ...tlsOptions(own),
    // Said aloud, because NODE_TLS_REJECT_UNAUTHORIZED=0 in the environment changes only the default.
    rejectUnauthorized: true,
    ALPNProtocols: [MEMBER_PROTOCOL],
    // The address may be any; the certificate says who it is.
    checkServerIdentity: (_, { raw }) => {
      const found = identityOf(new X509Certificate(raw));
      if (found !== null && uriOf(found) === uriOf(expected)) return undefined;
      return new Error(
        `its certificate is for ${found === null ? 'nobody' : uriOf(found)}, not ${uriOf(expected)}`,
      );
    },
  });
  try {
    await handshake(secured);
  } catch (error) {
    throw secured.authorizationError ? new WrongPeer((error as Error).message) : error;
  }
  return secured;
}

/** Resolves when the handshake of a client is over. */
export async function handshake(socket: TLSSocket): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const ended = () => reject(new Error('the connection was closed during the TLS handshake'));
    socket.once('error', reject).once('close', ended);
    socket.once('secureConnect', () => {
      socket.off('error', reject).off('close', ended);
      resolve();
    });
  });
}
