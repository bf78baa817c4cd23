import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { listenOnNetwork } from '../../../src/coordinator/network.js';
import { Sessions } from '../../../src/coordinator/sessions.js';
import { localCredential, Secrets, seesRunFolder } from '../../../src/run-folder/secrets.js';
import { temporaryFolder } from '../../support/folders.js';

let runDir: string;
let folder: string;
beforeEach(() => {
  runDir = temporaryFolder();
  folder = join(runDir, 'secrets');
});
const rules = { uses: 1, seconds: 60, worker: null };

test('a run on one machine keeps its credential while it is in progress, and nothing else', () => {
  expect(localCredential(runDir)).toBe(null);
  const secrets = new Secrets(runDir);
  secrets.publish('unix-abstract:x');
  expect(localCredential(runDir)).toBe('unix-abstract:x');
  expect(readdirSync(folder)).toEqual(['credential']);
  expect(statSync(join(folder, 'credential')).mode & 0o777).toBe(0o600);
  secrets.close(true);
  expect(localCredential(runDir)).toBe(null);
  expect(existsSync(folder)).toBe(false);
});

test('the authority and the tokens of a run that has begun are there the next time', async () => {
  const first = new Secrets(runDir);
  const { authority, tokens } = await first.network();
  const token = tokens.issue(rules);
  tokens.use(token, Buffer.from('key'), 'a');
  first.close(true);
  expect(readdirSync(folder).sort()).toEqual(['authority.key', 'authority.pem', 'tokens.jsonl']);
  for (const name of readdirSync(folder)) expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600);

  // It does not begin this time, and still nothing is lost.
  for (const begun of [false, true]) {
    const next = new Secrets(runDir);
    const found = await next.network();
    expect(found.authority.fingerprint).toBe(authority.fingerprint);
    expect(found.authority.run).toBe(authority.run);
    expect(() => found.tokens.use(token, Buffer.from('other'), 'b')).toThrow('used already');
    next.close(begun);
  }
  expect(seesRunFolder(runDir, authority.stored.certificate)).toBe(true);
  expect(seesRunFolder(runDir, 'another')).toBe(false);
  expect(seesRunFolder(temporaryFolder(), authority.stored.certificate)).toBe(false);
});

test('a run listens again at its last port, unless somebody else has it by now', async () => {
  const first = new Secrets(runDir);
  first.keepPort(12_345);
  first.close(true);
  const next = new Secrets(runDir);
  expect(next.formerPort('127.0.0.1:0')).toBe('127.0.0.1:12345');
  expect(next.formerPort('127.0.0.1:29500')).toBe('127.0.0.1:29500');

  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as AddressInfo;
  next.keepPort(port);
  const onEvent = () => {};
  const options = {
    workers: 1,
    generation: () => 0,
    lastGeneration: 0,
    since: 1,
    onEvent,
    onRefused: onEvent,
  };
  const sessions = new Sessions({ ...options, invite: () => null });
  const { address } = await listenOnNetwork({ listen: '127.0.0.1:0', advertise: 'a' }, sessions, next);
  await sessions.close(0);
  other.close();
  expect(address).toMatch(/^a:\d+$/);
  expect(address).not.toBe(`a:${port}`);
  next.close(true);
  expect(new Secrets(runDir).formerPort('127.0.0.1:0')).toBe(address.replace('a', '127.0.0.1'));
});

test('a start that does not begin leaves the port of the run before, and none where there was none', () => {
  const first = new Secrets(runDir);
  first.keepPort(12_345);
  first.close(true);
  const ended = new Secrets(runDir);
  ended.keepPort(12_345);
  ended.close(false);
  expect(new Secrets(runDir).formerPort('127.0.0.1:0')).toBe('127.0.0.1:12345');

  const other = temporaryFolder();
  const fresh = new Secrets(other);
  fresh.keepPort(12_345);
  fresh.close(false);
  expect(readdirSync(other)).toEqual([]);
});

test('a run that never began leaves nothing', async () => {
  const secrets = new Secrets(runDir);
  await secrets.network();
  secrets.publish('x');
  secrets.close(false);
  expect(readdirSync(runDir)).toEqual([]);
});

test('a folder that others can read is closed to them; one that is somewhere else is refused', async () => {
  mkdirSync(folder);
  chmodSync(folder, 0o755);
  const secrets = new Secrets(runDir);
  await secrets.network();
  expect(statSync(folder).mode & 0o777).toBe(0o700);
  secrets.close(true);

  const [other, elsewhere] = [temporaryFolder(), temporaryFolder()];
  symlinkSync(elsewhere, join(other, 'secrets'));
  chmodSync(elsewhere, 0o755);
  expect(() => new Secrets(other)).toThrow(
    expect.objectContaining({
      code: 'ERR_RUN_DIR',
      message: expect.stringContaining('it is not a folder of this user'),
    }),
  );
  expect(statSync(elsewhere).mode & 0o777).toBe(0o755);
  expect(readdirSync(elsewhere)).toEqual([]);
});

test('what was put in place of a file is not written through', () => {
  const secrets = new Secrets(runDir);
  const target = join(runDir, 'target');
  writeFileSync(target, 'precious');
  symlinkSync(target, join(folder, 'credential'));
  secrets.publish('x');
  expect(statSync(target).size).toBe('precious'.length);
  secrets.close(true);
});

test('a damaged authority is named', async () => {
  const secrets = new Secrets(runDir);
  await secrets.network();
  secrets.close(true);
  writeFileSync(join(folder, 'authority.key'), 'garbage');
  await expect(new Secrets(runDir).network()).rejects.toMatchObject({
    code: 'ERR_TOKEN',
    message: expect.stringMatching(/^The authority of the run is damaged: /),
    hint: 'Remove the folder `secrets` of the run: it gets another one',
  });
});
