/** The training loop of one worker with a real engine, and a coordinator that is played. */
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { resolveResume } from '../../src/checkpoint/resume.js';
import { publishCheckpoint } from '../../src/checkpoint/store.js';
import { loadConfig } from '../../src/config/load.js';
import type { Config } from '../../src/config/schema.js';
import { slotCount } from '../../src/config/schema.js';
import { openDataset } from '../../src/data/dataset.js';
import { canonicalJson } from '../../src/files/json.js';
import type { ServedCall } from '../../src/rpc/grpc-server.js';
import type { FromWorker } from '../../src/rpc/proto.js';
import { firstSegment } from '../../src/step/plan.js';
import { engineCollective } from '../../src/worker/collective/collective.js';
import { StateOffers } from '../../src/worker/offer.js';
import { CheckpointSaver } from '../../src/worker/saver.js';
import type { CoordinatorSession } from '../../src/worker/session.js';
import { buildSetup, loadState } from '../../src/worker/setup.js';
import { train } from '../../src/worker/train-loop.js';
import { closedAfterTest } from '../support/engines.js';
import { temporaryFolder } from '../support/folders.js';
import { TRAINING } from '../support/launched.js';

/** The plan of a new run, as the coordinator sends it. */
async function planFor({ data, seed }: Config): Promise<string> {
  const { hash, rows } = await openDataset(data);
  return JSON.stringify([firstSegment(hash, rows, data.validation_rows, seed)]);
}

/** The setup of the only worker of a run, with its first state. */
async function setUp(runDir: string) {
  const config = loadConfig(TRAINING, []);
  const configJson = canonicalJson(config);
  const planJson = await planFor(config);
  const setup = await buildSetup(
    { configJson, workers: 1, runDir, planJson, patienceSeconds: 60, isa: '' },
    1,
  );
  closedAfterTest(setup.engine);
  await loadState(setup, '', true, false, () => {});
  await setup.engine.stateLoaded(0);
  return setup;
}

/**
 * Trains until a commit says stop, and returns what the worker sent besides Prepared.
 *
 * @param commit The answer to the next Prepared, for which the coordinator may wait for messages.
 */
async function trained(
  runDir: string,
  commit: (messages: readonly FromWorker[]) => Promise<{ checkpoint: boolean; stop: boolean }>,
) {
  const setup = await setUp(runDir);
  const messages: FromWorker[] = [];
  let step = 0;
  const session = {
    send: (message: FromWorker) => {
      if (!message.prepared && !message.saving) messages.push(message);
    },
    regrouped: new AbortController().signal,
    next: async () => ({ step: ++step, validate: false, ...(await commit(messages)) }),
  } as unknown as CoordinatorSession;
  const addresses = { dataAddress: '', localAddress: '', machine: '', sharedMemory: '' };
  const member = { id: 'a', ...addresses, firstSlot: 0, endSlot: slotCount(setup.config) };
  const form = { members: [member], rank: 0 };
  const start = { step: 0, validate: false, checkpoint: false, stop: false };
  const collective = engineCollective(setup.engine, false);
  const saver = new CheckpointSaver(setup, session, null, () => {});
  const held = { step: 0, isShared: false, isUsed: true, ofRun: 0 };
  await train({ ...setup, session, form, collective, saver, held }, start);
  expect(held.step).toBe(step);
  return messages;
}

test('a worker stages a checkpoint that is complete, and leaves it to the coordinator to publish it', async () => {
  const runDir = temporaryFolder();
  const root = join(runDir, 'checkpoints');
  const messages = await trained(runDir, async () => ({ checkpoint: true, stop: true }));
  expect(messages.map((message) => Object.keys(message)[0])).toEqual(['applied', 'saved']);
  const [folder] = readdirSync(root);
  expect(messages[1]!.saved).toMatchObject({ step: 1, folder });
  expect(await resolveResume('auto', runDir)).toBeNull();
  await publishCheckpoint(root, folder!);
  expect((await resolveResume('auto', runDir))?.manifest.step).toBe(1);
});

test('what cannot be written is reported with its reason, and the loop goes on to the next', async () => {
  const runDir = temporaryFolder();
  const root = join(runDir, 'checkpoints');
  writeFileSync(root, 'a file in the place of the folder');
  let step = 0;
  const messages = await trained(runDir, async (sent) => {
    step++;
    if (step < 3) return { checkpoint: step === 1, stop: false };
    await expect.poll(() => sent.some(({ notSaved }) => notSaved)).toBe(true);
    rmSync(root);
    return { checkpoint: true, stop: true };
  });
  const kinds = messages.map((message) => Object.keys(message)[0]);
  expect(kinds.filter((kind) => kind !== 'applied')).toEqual(['notSaved', 'saved']);
  expect(messages.find(({ notSaved }) => notSaved)?.notSaved).toMatchObject({
    step: 1,
    failure: {
      code: 'ERR_CHECKPOINT_WRITE',
      message: expect.stringMatching(/^The checkpoint of step 1 was not written: .*checkpoints.*untouched$/),
    },
  });
  expect(messages.at(-1)?.saved?.step).toBe(3);
});

test('a data set that is not that of the plan is refused before anything is built', async () => {
  const config = loadConfig(TRAINING, []);
  const [segment] = JSON.parse(await planFor(config));
  const planJson = JSON.stringify([{ ...segment, datasetHash: '0'.repeat(64) }]);
  const built = buildSetup(
    { configJson: canonicalJson(config), workers: 1, runDir: 'x', planJson, patienceSeconds: 60, isa: '' },
    1,
  );
  await expect(built).rejects.toMatchObject({
    code: 'ERR_PLAN',
    message: expect.stringContaining(`its hash is ${segment.datasetHash}, the run's is 000`),
    hint: expect.stringContaining('--allow-data-change'),
  });
});

test('a state that is ordered again at any moment after it was declined is offered again', async () => {
  const setup = await setUp(temporaryFolder());
  const offers = new StateOffers();
  const told: number[] = [];
  const send = ({ offered }: FromWorker) => offered && told.push(offered.number!);
  const saver = new CheckpointSaver(setup, { send } as unknown as CoordinatorSession, offers, () => {});
  for (let turns = 0; turns <= 20; turns++) {
    told.length = 0;
    await saver.save(0);
    await expect.poll(() => told).toHaveLength(1);
    offers.decline(told[0]!);
    for (let turn = 0; turn < turns; turn++) await null;
    await saver.save(0);
    await expect.poll(() => told, { message: `after ${turns} turns` }).toHaveLength(2);
    offers.decline(told[1]!);
    await saver.settled();
  }
});

test('a state whose transfer breaks is offered three times', async () => {
  const setup = await setUp(temporaryFolder());
  const offers = new StateOffers();
  const messages: FromWorker[] = [];
  const broken = { send: async () => {}, over: Promise.resolve(false) } as unknown as ServedCall;
  const send = (message: FromWorker) => {
    messages.push(message);
    if (message.offered) queueMicrotask(() => void offers.serve(0, broken));
  };
  const saver = new CheckpointSaver(setup, { send } as unknown as CoordinatorSession, offers, () => {});
  await saver.save(0);
  await saver.settled();
  expect(messages).toMatchObject([
    ...[1, 2, 3].map((number) => ({ offered: { step: 0, number } })),
    {
      notSaved: { step: 0, failure: { message: expect.stringMatching(/did not reach the coordinator/) } },
    },
  ]);
});
