/** The state of a worker that does not see the run folder, over TLS, into a checkpoint that the coordinator writes. */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { encodeMetadata, readManifest } from '../../../src/checkpoint/manifest.js';
import { statePieces } from '../../../src/checkpoint/state-stream.js';
import { publishCheckpoint, stageCheckpoint, verifyCheckpoint } from '../../../src/checkpoint/store.js';
import { parseConfig } from '../../../src/config/load.js';
import { expectedState } from '../../../src/coordinator/expected-state.js';
import { StateFetcher } from '../../../src/coordinator/state-fetcher.js';
import type { Offered } from '../../../src/rpc/proto.js';
import type { Event } from '../../../src/rule/events.js';
import { Authority } from '../../../src/security/authority.js';
import { newKey } from '../../../src/security/keys.js';
import { firstSegment } from '../../../src/step/plan.js';
import { PeerServer } from '../../../src/worker/collective/grpc.js';
import { contentOf } from '../../support/checkpoints.js';
import { SMALL } from '../../support/engines.js';
import { temporaryFolder } from '../../support/folders.js';

const STEP = 4;
const { latent, text, ...written } = contentOf(STEP, 1).metadata;
const CONFIG = parseConfig('name: x\ndata: {path: x}\n', 'the test');
const SEGMENT = firstSegment('a'.repeat(64), 1_000, 256, CONFIG.seed);
const EXPECTED = expectedState(
  { config: CONFIG, model: SMALL, segments: [SEGMENT] },
  { latent, text, encoders: { clip_l: 'L', clip_g: 'G', t5: 'T5' } },
);
const content = {
  ...contentOf(STEP, 1),
  metadata: { ...EXPECTED.metadata(STEP), versions: written.versions },
};
const OFFERED: Offered = {
  step: STEP,
  metadata: encodeMetadata(content.metadata),
  moments: ['m', 'v'],
  ema: true,
  stallSeconds: 0.5,
  number: 1,
};

/** The same offer, which says something else of the state. */
function saying(changes: Partial<typeof content.metadata>): Buffer {
  return encodeMetadata({ ...content.metadata, ...changes });
}

const servers: PeerServer[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** A worker with a certificate, and the coordinator of its run. */
async function run() {
  const authority = await Authority.create();
  const { privateKey: key, publicKey } = newKey();
  const certificate = await authority.issue({ role: 'worker', id: 'w' }, publicKey);
  const identity = { run: authority.run, role: 'worker', id: 'w' } as const;
  const own = { identity, key, certificate, authority: authority.stored.certificate };
  const server = new PeerServer(() => {});
  servers.push(server);
  const roles = ['worker', 'coordinator'] as const;
  const port = await server.listen({ listen: '127.0.0.1:0', own, roles, enrolments: null });
  const runDir = temporaryFolder();
  const events: Event[] = [];
  const fetcher = new StateFetcher({ runDir, onEvent: (event) => events.push(event), lostMs: 10 });
  fetcher.open({ own: await authority.coordinator(), expected: EXPECTED });
  const addresses = { dataAddress: `127.0.0.1:${port}`, localAddress: '', machine: '', sharedMemory: '' };
  const member = { id: 'w', host: 'h', pid: 1, ...addresses };
  return { server, runDir, events, fetcher, member };
}

async function pieces(): Promise<Float32Array[]> {
  const { layout, posEmbed, state } = content;
  return await Promise.all(
    statePieces(layout, posEmbed.length, true).map(async ({ array, tensor, from, to }) =>
      (tensor === '' ? posEmbed : await state.get(array)!(tensor)).subarray(from, to),
    ),
  );
}

test('what a worker offers becomes a checkpoint with the bytes of one that it would have written', async () => {
  const { server, runDir, events, fetcher, member } = await run();
  let fetched: Promise<void> | undefined;
  await server.offers.offer(STEP, await pieces(), () => {
    fetched = fetcher.fetch(member, OFFERED, 1);
  });
  await fetched;
  const [saved] = events.filter(({ type }) => type === 'saved');
  expect(saved).toMatchObject({ id: 'w', saved: { step: STEP, stallSeconds: 0.5 } });
  const { folder } = (saved as Extract<Event, { type: 'saved' }>).saved;
  const root = join(runDir, 'checkpoints');
  expect(readdirSync(root)).toEqual([folder]);
  await publishCheckpoint(root, folder);
  const { manifest } = await stageCheckpoint(temporaryFolder(), content);

  expect(await verifyCheckpoint(join(root, 'step-00000004'))).toEqual(manifest);
});

test('the copy of the data set that a worker has need not name the encoders', async () => {
  const { server, runDir, events, fetcher, member } = await run();
  const metadata = saying({ encoders: null });
  await server.offers.offer(
    STEP,
    await pieces(),
    () => void fetcher.fetch(member, { ...OFFERED, metadata }, 1),
  );
  await expect.poll(() => events.some(({ type }) => type === 'saved')).toBe(true);
  const [folder] = readdirSync(join(runDir, 'checkpoints'));
  const manifest = await readManifest(join(runDir, 'checkpoints', folder!));
  expect(manifest.encoders).toEqual({ clip_l: 'L', clip_g: 'G', t5: 'T5' });
});

test.each<[string, Partial<Offered>, RegExp]>([
  ['was withdrawn', {}, /did not come from worker w \(pid 1 on h\).*the state after step 4 is not offered/],
  ['is of another run', { metadata: saying({ config: {} }) }, /of another run, with another config$/],
  ['is of another step', { metadata: saying({ step: 5 }) }, /another step$/],
  ['is of another model', { metadata: saying({ modelSpec: { ...SMALL, depth: 1 } }) }, /another modelSpec$/],
  ['is of another data set', { metadata: saying({ datasetHash: 'b'.repeat(64) }) }, /another datasetHash$/],
  ['has another plan', { metadata: saying({ planState: { version: 2 } }) }, /another planState$/],
  ['is of other latents', { metadata: saying({ latent: [4, 8, 4] }) }, /another latent$/],
  ['is of another optimizer', { metadata: saying({ optimizer: 'sgd' }) }, /another optimizer$/],
  ['has other moments', { moments: ['m', 'm'] }, /another moments$/],
  ['has no average', { ema: false }, /another ema$/],
  ['is nonsense', { metadata: Buffer.from('{}') }, /no description of a state/],
])(
  'an offer that %s is a checkpoint that is missing, and nothing of it stays',
  async (_, changes, message) => {
    const { runDir, events, fetcher, member } = await run();
    await fetcher.fetch(member, { ...OFFERED, ...changes }, 1);
    const said = { message: expect.stringMatching(message) };
    expect(events).toMatchObject([
      Object.keys(changes).length === 0
        ? { type: 'notFetched', fetch: 1, fault: said }
        : { type: 'notSaved', id: 'w', notSaved: { step: STEP, failure: said } },
    ]);
    expect(
      readdirSync(runDir, { recursive: true }).filter((name) => String(name).includes('partial')),
    ).toEqual([]);
  },
);

test('a worker that sends too little costs that checkpoint', async () => {
  const { server, runDir, events, fetcher, member } = await run();
  const all = await pieces();
  await server.offers.offer(STEP, all.slice(0, 3), () => void fetcher.fetch(member, OFFERED, 1));
  await expect.poll(() => events.length).toBe(1);
  expect(events[0]).toMatchObject({
    type: 'notFetched',
    fault: { code: 'ERR_CHECKPOINT_WRITE', message: expect.stringContaining('the stream ended early') },
  });
  expect(readdirSync(join(runDir, 'checkpoints'))).toEqual([]);
});

test('one that cannot be written before all of it has come is told as one that broke off', async () => {
  const { server, runDir, events, fetcher, member } = await run();
  // It is in the way of the folder.
  writeFileSync(join(runDir, 'checkpoints'), '');
  let fetched: Promise<void> | undefined;
  const offered = server.offers.offer(STEP, await pieces(), () => {
    fetched = fetcher.fetch(member, OFFERED, 7);
  });
  await expect(offered).rejects.toThrow('did not reach the coordinator');
  await fetched;
  expect(events).toMatchObject([{ type: 'notFetched', fetch: 7, fault: { code: 'ERR_CHECKPOINT_WRITE' } }]);
});

test('when the run ends during a transfer, nothing of it is written any more', async () => {
  const { server, runDir, events, fetcher, member } = await run();
  const all = await pieces();
  let sent = () => {};
  const isSent = new Promise<void>((resolve) => {
    sent = resolve;
  });
  /** The run ends after some pieces. */
  function* interrupted() {
    yield* all.slice(0, 3);
    sent();
    yield* all.slice(3);
  }
  server.offers.offer(STEP, interrupted(), () => void fetcher.fetch(member, OFFERED, 1)).catch(() => {});
  await isSent;
  await fetcher.close();
  const left = readdirSync(runDir, { recursive: true }).filter((name) => String(name).includes('partial'));
  expect([left, events.filter(({ type }) => type !== 'saving')]).toEqual([[], []]);
});
