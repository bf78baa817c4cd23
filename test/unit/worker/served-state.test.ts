/** The checkpoint from which a run goes on, from the coordinator over TLS into the memory of a worker. */
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { MANIFEST } from '../../../src/checkpoint/manifest.js';
import { statePieces } from '../../../src/checkpoint/state-stream.js';
import { type StateCall, serveCheckpoint } from '../../../src/coordinator/serve-checkpoint.js';
import { Sessions } from '../../../src/coordinator/sessions.js';
import { checkedMessage } from '../../../src/rpc/framing.js';
import { type ServedCall, StreamServer } from '../../../src/rpc/grpc-server.js';
import { type Link, LinkCredentials } from '../../../src/rpc/links.js';
import { Listener } from '../../../src/rpc/listener.js';
import { Coordinator } from '../../../src/rpc/proto.js';
import { receiveCheckpoint } from '../../../src/worker/served-state.js';
import type { StateMemory } from '../../../src/worker/state-transfer.js';
import { contentOf, layoutOf, sameBytes, saveCheckpoint, stateOf } from '../../support/checkpoints.js';
import { SMALL } from '../../support/engines.js';
import { temporaryFolder } from '../../support/folders.js';
import { JOIN } from '../../support/join.js';
import { type TestRun, testRun } from '../../support/members.js';

const STEP = 4;
const ARRAYS = ['master', 'ema', 'm', 'v'] as const;
const content = contentOf(STEP, 1);

/** The memory of an engine, which is empty at first. */
function memory() {
  const layout = layoutOf(SMALL);
  const flat = new Map(ARRAYS.map((name) => [name, new Float32Array(layout.length)]));
  const state = stateOf(layout, flat);
  const positions = new Float32Array(content.posEmbed.length);
  const told = { changed: 0 };
  const engine: StateMemory = {
    layout: () => layout,
    posEmbed: () => positions,
    state: async (array, tensor) => await state.get(array)!(tensor),
    parametersChanged: async () => {
      told.changed++;
    },
  };
  const isWhole = () =>
    sameBytes(positions, content.posEmbed) &&
    ARRAYS.every((name) => sameBytes(flat.get(name)!, content.flat.get(name)!));
  return { engine, positions, flat, told, isWhole };
}

let run: TestRun;
let checkpoint: string;
beforeAll(async () => {
  run = await testRun();
  checkpoint = (await saveCheckpoint(temporaryFolder(), content)).path;
});

/** A coordinator that serves this checkpoint, and the link by which worker "a", which has joined, reaches it. */
async function serving(path: string): Promise<Link> {
  const sessions = new Sessions({
    workers: 1,
    lastGeneration: 0,
    since: 1,
    generation: () => 1,
    invite: () => null,
    onState: (call) => void serveCheckpoint(call, { step: STEP, path }, true),
    onEvent: () => joined(),
    onRefused: () => {},
  });
  let joined = () => {};
  const isJoined = new Promise<void>((resolve) => {
    joined = resolve;
  });
  const socket = { listen: '127.0.0.1:0', own: run.coordinator, enrolments: null };
  const address = `127.0.0.1:${await sessions.listen(socket)}`;
  const proof = { own: await run.worker('a'), expected: run.coordinator.identity };
  const client = new Coordinator(address, new LinkCredentials(proof, () => {}));
  onTestFinished(async () => {
    client.close();
    await sessions.close(0);
  });
  const session = client.Session();
  session.on('error', () => {});
  session.write({ join: JOIN });
  await isJoined;
  return { address, proof };
}

const never = new AbortController().signal;

describe('the checkpoint from the coordinator', () => {
  test('comes over TLS with every bit of its state', async () => {
    const coordinator = await serving(checkpoint);
    const { engine, told, isWhole } = memory();
    const steps: number[] = [];
    const from = { coordinator, signal: never };
    await receiveCheckpoint(engine, true, STEP, from, ({ step }) => steps.push(step));
    expect([steps, told.changed, isWhole()]).toEqual([[STEP], 1, true]);
  });

  test('is not taken with a bit that was flipped on the way', async () => {
    const server = new Server();
    let messages = 0;
    const responseSerialize = (bytes: Buffer) => {
      const message = checkedMessage(bytes);
      if (++messages === 3) message[17]! ^= 1;
      return message;
    };
    const { State } = Coordinator.service;
    server.addService(
      { State: { ...State, responseSerialize } },
      { State: (call: StateCall) => void serveCheckpoint(call, { step: STEP, path: checkpoint }, true) },
    );
    const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
    const admit = (socket: Socket) => injector.injectConnection(socket);
    const listener = new Listener({ admit, onRefused: () => {} });
    onTestFinished(() => {
      server.forceShutdown();
      void listener.close();
    });
    const coordinator = { address: await listener.listenLocally(), proof: null };
    const { engine, told } = memory();
    const received = receiveCheckpoint(engine, true, STEP, { coordinator, signal: never }, () => {});
    await expect(received).rejects.toMatchObject({
      code: 'ERR_EXCHANGE',
      message: expect.stringContaining('bits were flipped on the way'),
    });
    expect([messages >= 3, told.changed]).toEqual([true, 0]);
  });

  test.each<[string, string, number, RegExp]>([
    ['damaged', 'ERR_CHECKPOINT_DAMAGED', STEP, /cannot be read/],
    ['that of another step', 'ERR_EXCHANGE', STEP + 1, /there is no checkpoint of step 5 here/],
  ])('that is %s is %s', async (_, code, step, message) => {
    const { path } = await saveCheckpoint(temporaryFolder(), content);
    if (step === STEP) rmSync(join(path, 'optimizer.safetensors'));
    const coordinator = await serving(path);
    const { engine, told } = memory();
    const received = receiveCheckpoint(engine, true, step, { coordinator, signal: never }, () => {});
    await expect(received).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect(told.changed).toBe(0);
  });

  test('is not given to who is no member, which says nothing of the checkpoint', async () => {
    const { address, proof } = await serving(checkpoint);
    const coordinator = { address, proof: { ...proof!, own: await run.worker('b') } };
    const received = receiveCheckpoint(memory().engine, true, STEP, { coordinator, signal: never }, () => {});
    await expect(received).rejects.toMatchObject({
      code: 'ERR_EXCHANGE',
      message: expect.stringContaining('only members get the state'),
    });
  });

  test('is not written any further when its generation is over', async () => {
    const { tensors, moments } = layoutOf(SMALL);
    const all = await Promise.all(
      statePieces({ tensors, moments }, content.posEmbed.length, true).map(
        async ({ array, tensor, from, to }) =>
          (tensor === '' ? content.posEmbed : await content.state.get(array)!(tensor)).subarray(from, to),
      ),
    );
    const over = new AbortController();
    let call: ServedCall | undefined;
    const isOver = once(over.signal, 'abort');
    /** The first piece comes before the end of the generation, and the others after it. */
    async function* messages() {
      yield readFileSync(join(checkpoint, MANIFEST));
      yield all[0]!;
      await isOver;
      yield* all.slice(1);
    }
    const server = new StreamServer({
      path: Coordinator.service.State.path,
      serve: (_, opened) => {
        call = opened;
        void opened.send(messages());
      },
      onRefused: () => {},
    });
    onTestFinished(() => server.close());
    const coordinator = { address: await server.listenLocally(), proof: null };
    const { engine, positions, flat, told } = memory();
    const received = receiveCheckpoint(engine, true, STEP, { coordinator, signal: over.signal }, () => {});
    const ended = expect(received).rejects.toThrow('the next generation');
    await expect.poll(() => sameBytes(positions, content.posEmbed)).toBe(true);
    over.abort(new Error('the next generation'));
    await ended;
    await call!.over;
    const isUntouched = (array: Float32Array) => array.every((value) => value === 0);
    expect([told.changed, [...flat.values()].every(isUntouched)]).toEqual([0, true]);
  });
});
