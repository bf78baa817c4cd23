import { afterEach, beforeEach, expect, test } from 'vitest';
import { Sessions } from '../../../src/coordinator/sessions.js';
import { CoordinatorSession } from '../../../src/worker/session.js';
import { JOIN } from '../../support/join.js';

const WELCOME = { configJson: '{}', workers: 1, dataToken: 'data', runDir: 'runs/x', planVersion: 2 };

let sessions: Sessions;
let session: CoordinatorSession;
beforeEach(async () => {
  sessions = new Sessions({
    token: 'secret',
    generation: () => 1,
    onEvent: ({ type }) => {
      if (type === 'joined') sessions.send(null, { welcome: WELCOME });
    },
    onRefused: () => {},
  });
  session = new CoordinatorSession(await sessions.listen('127.0.0.1:0'));
});
afterEach(async () => {
  session.close();
  await sessions.close(1_000);
});

test('messages that came before the end are handed on in order, then the end', async () => {
  expect(await session.join(JOIN)).toEqual(WELCOME);
  sessions.send(null, { generation: 1, start: { firstStep: 5 } });
  sessions.send(null, { generation: 1, commit: { stop: true } });
  sessions.send(null, { generation: 1, stop: { exitCode: 143 } });
  await expect(session.over).rejects.toMatchObject({ exitCode: 143 });
  expect(await session.next('start')).toEqual({ firstStep: 5 });
  expect(await session.next('commit')).toEqual({ validate: false, checkpoint: false, stop: true });
  await expect(session.next('commit')).rejects.toMatchObject({ exitCode: 143 });
});

test('whoever waits for a message gets the end', async () => {
  await session.join(JOIN);
  const waits = session.next('form');
  sessions.send(null, { generation: 1, stop: { exitCode: 1 } });
  await expect(waits).rejects.toMatchObject({ exitCode: 1 });
});

test('a coordinator that goes away is named by its address', async () => {
  await session.join(JOIN);
  const lost = expect(session.next('form')).rejects.toThrow(
    /^Lost the coordinator at 127\.0\.0\.1:\d+: it ended the session$/,
  );
  await sessions.close(1_000);
  await lost;
});

test('messages of an older generation are left out, and one of another kind is an error', async () => {
  await session.join(JOIN);
  sessions.send(null, { generation: 2, form: { rank: 1 } });
  sessions.send(null, { generation: 1, form: { rank: 0 } });
  sessions.send(null, { generation: 2, start: { firstStep: 1 } });
  expect(await session.next('form')).toMatchObject({ rank: 1 });
  await expect(session.next('sync')).rejects.toThrow('The coordinator sent start where sync was expected');
});

test('a refused token is an error of its own', async () => {
  await expect(session.join({ ...JOIN, token: 'guess!' })).rejects.toMatchObject({ code: 'ERR_TOKEN' });
});
