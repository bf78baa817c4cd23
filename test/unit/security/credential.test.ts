import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { formatCredential, parseCredential, readCredential } from '../../../src/security/credential.js';
import { temporaryFolder } from '../../support/folders.js';

const TOKEN = 'a-_Z'.padEnd(43, '0');
const enrolment = { token: TOKEN, fingerprint: 'f0'.repeat(32) };

test.each(['10.0.0.1:29500', 'node-1.example.org:1', '[fe80::1]:65535', '[fe80::1%eth0]:1'])(
  'a credential for %s is read as it was written',
  (address) => {
    const credential = { address, enrolment };
    expect(parseCredential(`${formatCredential(credential)}\n`, 'x')).toEqual(credential);
  },
);

test('that of the machine is an address alone', () => {
  const credential = { address: 'unix-abstract:orchestrator-1', enrolment: null };
  expect(parseCredential(formatCredential(credential), 'x')).toEqual(credential);
});

test.each([
  '',
  '127.0.0.1:29500',
  `orch2.${TOKEN}.${'f0'.repeat(32)}@a:1`,
  `orch1.${TOKEN}@a:1`,
  `orch1.${TOKEN}.${'F0'.repeat(32)}@a:1`,
  `orch1.${TOKEN}0.${'f0'.repeat(32)}@a:1`,
  `orch1.${TOKEN}.${'f0'.repeat(32)}@a`,
  `orch1.${TOKEN}.${'f0'.repeat(32)}@a:1 b`,
  'unix-abstract:x y',
])('"%s" is none, and is not repeated', (text) => {
  const read = () => parseCredential(text, 'the file');
  expect(read).toThrow(expect.objectContaining({ code: 'ERR_TOKEN' }));
  expect(read).toThrow(
    /^the file holds no credential: expected one line, orch1\.TOKEN\.FINGERPRINT@HOST:PORT$/,
  );
});

test('a file that is missing is named, and of one that is too long nothing is taken', () => {
  const path = join(temporaryFolder(), 'credential');
  const none = () => {};
  expect(() => readCredential(path, none)).toThrow(expect.objectContaining({ code: 'ERR_FILE_OPEN' }));
  writeFileSync(path, `unix-abstract:${'x'.repeat(5_000)}`);
  expect(() => readCredential(path, none)).toThrow(`${path} holds no credential`);
  writeFileSync(path, 'unix-abstract:x\n');
  expect(readCredential(path, none).address).toBe('unix-abstract:x');
});

test('a credential in the place of its file is refused, and is not repeated', () => {
  const text = formatCredential({ address: 'a:1', enrolment });
  const read = () => readCredential(text, () => {});
  expect(read).toThrow(expect.objectContaining({ code: 'ERR_TOKEN' }));
  expect(read).toThrow(/^--credential takes a file, or - for standard input/);
  expect(read).not.toThrow(TOKEN);
});

test.each([
  [0o600, false],
  [0o640, true],
  [0o604, true],
])('a file of mode %o with a secret is read, with a warning where others can read it', (mode, warned) => {
  const path = join(temporaryFolder(), 'credential');
  const credential = { address: 'a:1', enrolment };
  writeFileSync(path, formatCredential(credential));
  chmodSync(path, mode);
  const warnings: string[] = [];
  expect(readCredential(path, (warning) => warnings.push(warning))).toEqual(credential);
  const warning = `others can read the credential, which is a secret: ${path} has the mode 0${mode.toString(8)}; \`chmod 600\` it, or use \`umask 077\` before it is made`;
  expect(warnings).toEqual(warned ? [warning] : []);
  // The credential of workers on this machine is no secret.
  writeFileSync(path, 'unix-abstract:x');
  readCredential(path, (text) => expect.unreachable(text));
});
