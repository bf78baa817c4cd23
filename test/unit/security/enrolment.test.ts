/** Enrolment over real sockets: who gets a certificate, and every way not to get one. */
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { connectLink } from '../../../src/rpc/links.js';
import { Listener } from '../../../src/rpc/listener.js';
import { Authority } from '../../../src/security/authority.js';
import type { RemoteCredential } from '../../../src/security/credential.js';
import { ENROLMENT_PROTOCOL, Enrolments, enrol } from '../../../src/security/enrolment.js';
import type { Identity } from '../../../src/security/identity.js';
import { newKey } from '../../../src/security/keys.js';
import { Tokens } from '../../../src/security/tokens.js';
import { temporaryFolder } from '../../support/folders.js';

const PROTOCOL = 7;
const PATIENCE = { timeout: 15_000 };

let authority: Authority;
let tokens: Tokens;
let now: number;
let listener: Listener;
let port: number;
let admitted: (Identity | null)[];
let refused: string[];
const closers: (() => void)[] = [];
beforeEach(async () => {
  const [peers, notes]: [typeof admitted, string[]] = [[], []];
  [admitted, refused, now] = [peers, notes, 0];
  authority = await Authority.create();
  tokens = new Tokens(join(temporaryFolder(), 'tokens.jsonl'), () => Date.now() + now);
  listener = new Listener({
    admit: (socket, peer) => {
      closers.push(() => socket.destroy());
      peers.push(peer);
    },
    onRefused: (message) => notes.push(message),
  });
  port = await listener.listen({
    listen: '127.0.0.1:0',
    own: await authority.coordinator(),
    roles: ['worker'],
    enrolments: new Enrolments({ authority, tokens, protocol: PROTOCOL }),
  });
});
afterEach(async () => {
  for (const close of closers.splice(0)) close();
  await listener.close();
  tokens.close();
});

function credential(worker: string | null = null, uses = 1): RemoteCredential {
  const token = tokens.issue({ uses, seconds: 60, worker });
  return { address: `127.0.0.1:${port}`, enrolment: { token, fingerprint: authority.fingerprint } };
}

async function joinRun(given: RemoteCredential, worker = 'w', protocol = PROTOCOL, key = newKey()) {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'connect');
  return await enrol(given, { worker, protocol, key, socket });
}

/** Sends a line, and reads the answer until the coordinator ends the connection. */
async function ask(text: string | Buffer): Promise<string> {
  const socket = connectTls({
    port,
    host: '127.0.0.1',
    ALPNProtocols: [ENROLMENT_PROTOCOL],
    rejectUnauthorized: false,
  });
  closers.push(() => socket.destroy());
  let answer = '';
  socket.on('error', () => {}).on('data', (piece) => (answer += String(piece)));
  socket.write(text);
  await expect.poll(() => socket.closed, PATIENCE).toBe(true);
  return answer;
}

test('with a credential a process becomes a worker, and is admitted as that', async () => {
  const { own, localHost } = await joinRun(credential());
  expect(localHost).toBe('127.0.0.1');
  expect(own.identity).toEqual({ run: authority.run, role: 'worker', id: 'w' });
  const expected: Identity = { run: own.identity.run, role: 'coordinator', id: '' };
  const link = { address: `127.0.0.1:${port}`, proof: { own, expected } };
  const socket = await connectLink(link, AbortSignal.timeout(15_000));
  closers.push(() => socket.destroy());
  await expect.poll(() => admitted, PATIENCE).toEqual([own.identity]);
  expect(refused).toEqual([]);
});

test("the token's worker has its own id; others choose theirs, but nobody that of another", async () => {
  expect((await joinRun(credential('local-1'), 'x')).own.identity.id).toBe('local-1');
  const shared = credential(null, 3);
  expect((await joinRun(shared, 'local-1')).own.identity.id).toBe('local-1-2');
  expect((await joinRun(shared, 'x')).own.identity.id).toBe('x');
  expect((await joinRun(shared, 'x\u001b[31m\nerror: y')).own.identity.id).toBe('x[31m error: y');
  expect((await joinRun(credential('local-1'), 'x')).own.identity.id).toBe('local-1');
});

test('a process whose answer was lost enrols again with the same token and key', async () => {
  const [given, key] = [credential(), newKey()];
  await joinRun(given, 'w', PROTOCOL, key);
  expect((await joinRun(given, 'w', PROTOCOL, key)).own.identity.id).toBe('w');
});

describe('is refused:', () => {
  const tells = async (given: RemoteCredential, code: string, why: RegExp, protocol = PROTOCOL) => {
    await expect(joinRun(given, 'w', protocol)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(why),
    });
    expect(admitted).toEqual([]);
  };

  test('a token that the run has not issued', async () => {
    const given = credential();
    await tells(
      { ...given, enrolment: { ...given.enrolment, token: 'A'.repeat(43) } },
      'ERR_TOKEN',
      /no such token/,
    );
    await expect.poll(() => refused, PATIENCE).toEqual([expect.stringContaining('no such token')]);
  });

  test('a token that has expired', async () => {
    const given = credential();
    now = 61_000;
    await tells(given, 'ERR_TOKEN', /^The coordinator at .* refused this worker: the token expired at 2/);
  });

  test('a token that has been used', async () => {
    const given = credential();
    await joinRun(given);
    await tells(given, 'ERR_TOKEN', /the token has been used already/);
  });

  test('another version of the protocol', async () => {
    await tells(credential(), 'ERR_PROTOCOL', /its protocol is 6, .* is 7: mixed versions/, PROTOCOL - 1);
  });

  test('a coordinator of another run, which does not learn the token', async () => {
    const given = credential();
    const other = { ...given, enrolment: { ...given.enrolment, fingerprint: '0'.repeat(64) } };
    await tells(
      other,
      'ERR_TOKEN',
      /is not the coordinator of this credential: its certificate is of another authority/,
    );
    expect((await joinRun(given)).own.identity.id).toBe('w');
  });

  test('a worker of the run that poses as its coordinator', async () => {
    const { own } = await joinRun(credential());
    const impostor = new Listener({ admit: () => {}, onRefused: () => {} });
    closers.push(() => void impostor.close());
    const real = port;
    port = await impostor.listen({ listen: '127.0.0.1:0', own, roles: [], enrolments: null });
    await tells(credential(), 'ERR_TOKEN', /its certificate is not for a coordinator/);
    port = real;
  });
});

const otherKey = () =>
  generateKeyPairSync('ec', { namedCurve: 'secp384r1' })
    .publicKey.export({ type: 'spki', format: 'der' })
    .toString('base64');
const offCurve = () => {
  const { publicKey } = newKey();
  publicKey[publicKey.length - 1]! ^= 1;
  return publicKey.toString('base64');
};
const request = (fields: object) =>
  `${JSON.stringify({
    ...{ protocol: PROTOCOL, worker: 'w', key: newKey().publicKey.toString('base64') },
    ...{ token: credential().enrolment.token },
    ...fields,
  })}\n`;

test.each<[string, () => string | Buffer, RegExp]>([
  ['no JSON', () => 'hello\n', /a malformed request to enrol/],
  ['a line feed', () => '\n', /a malformed request to enrol/],
  ['another JSON', () => '[]\n', /a malformed request to enrol/],
  ['a field of another type', () => request({ token: 7 }), /a malformed request to enrol/],
  ['no id', () => request({ worker: '' }), /a malformed request to enrol/],
  ['an id that is too long', () => request({ worker: 'w'.repeat(129) }), /a malformed request to enrol/],
  ['an id without a character', () => request({ worker: '\u0007' }), /a name without a character/],
  ['no key', () => request({ key: 'AAAA' }), /without a P-256 key/],
  ['a key of another kind', () => request({ key: otherKey() }), /without a P-256 key/],
  ['a point that is not on the curve', () => request({ key: offCurve() }), /without a P-256 key/],
  [
    'a line that is too long',
    () => `${request({}).trim()}${' '.repeat(5_000)}\n`,
    /a line of more than 4096/,
  ],
  ['more than a line', () => Buffer.alloc(100_000, 0x20), /a line of more than 4096 characters/],
])('a request with %s gets no answer, and uses no token', async (_, line, why) => {
  expect(await ask(line())).toBe('');
  await expect.poll(() => refused, PATIENCE).toEqual([expect.stringMatching(why)]);
});

test('a whole request gets one line', async () => {
  expect(JSON.parse(await ask(request({})))).toMatchObject({ worker: 'w', run: authority.run });
});

test('after the answer nothing is read, though the other side goes on sending', async () => {
  const socket = new Duplex({ read: () => {}, write: (_, __, done) => done() });
  const enrolments = new Enrolments({ authority, tokens, protocol: PROTOCOL });
  socket.push(request({ protocol: 0 }));
  expect(await enrolments.answer(socket as TLSSocket)).toContain('mixed versions');
  socket.push('more');
  // Not only when its time is up.
  await expect.poll(() => socket.destroyed).toBe(true);
  expect(socket.listenerCount('data')).toBe(0);
});
