/** The workers of the sessions bench, in one process and without engines; see sessions.ts. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ClientDuplexStream, makeGenericClientConstructor } from '@grpc/grpc-js';
import { canonicalHash } from '../src/files/hash.js';
import { channelTarget } from '../src/rpc/address.js';
import { LinkCredentials } from '../src/rpc/links.js';
import { Coordinator, type CoordinatorMessage, type FromWorker } from '../src/rpc/proto.js';
import { PROTOCOL } from '../src/rpc/protocol.js';
import { controlOptions } from '../src/rpc/transport.js';
import { workerNumbers } from '../src/telemetry/metrics.js';
import type { SessionsChange, SessionsOrders, SessionsTimes } from './sessions.js';

const STEP_MS = 1_000;
/** A worker that was lost is started again after this time. */
const AWAY_MS = 1_000;
const HEARTBEAT_MS = 250;

/** What came last, and what it says: each of a run's machines reads a message once, and this process for all. */
let read: { bytes: Buffer; message: CoordinatorMessage } | null = null;
const { Session } = Coordinator.service;
const Client = makeGenericClientConstructor(
  {
    Session: {
      ...Session,
      responseDeserialize: (bytes: Buffer) => {
        if (read === null || !bytes.equals(read.bytes)) {
          read = {
            bytes: Buffer.from(bytes),
            message: Session.responseDeserialize(bytes) as CoordinatorMessage,
          };
        }
        return read.message;
      },
    },
  },
  'Coordinator',
);

const [{ address, workers }] = (await once(process, 'message')) as [SessionsOrders];
const sessions: Worker[] = [];
/** When the last Prepared was sent and the last Commit came, by step. */
const steps = new Map<number, { prepared: number; committed: number }>();
/** When the generation that forms had its cause, and when its last worker heard that it starts. */
let cause: number | null = null;
let lastStart = 0;
const times: SessionsTimes = { messages: 0, commits: [], regroupings: [] };
const numbers = workerNumbers({});

/** Resolves with the next step. */
let turn: Promise<void>;
let takeTurn = () => {};
const nextTurn = () => {
  turn = new Promise((resolve) => {
    takeTurn = resolve;
  });
};
nextTurn();
setInterval(() => {
  takeTurn();
  nextTurn();
}, STEP_MS);

let begun = () => {};
const beginning = new Promise<void>((resolve) => {
  begun = resolve;
});
/** Takes part as one worker after another in the same place. */
async function work(index: number): Promise<never> {
  for (;;) {
    await new Worker(index).over;
    await sleep(AWAY_MS);
    cause = performance.now();
  }
}

function begins(): void {
  lastStart = performance.now();
  begun();
  if (cause === null) return;
  const since = cause;
  cause = null;
  // All hear of it within moments.
  setTimeout(() => times.regroupings.push((lastStart - since) / 1e3), STEP_MS / 2);
}

/** A worker without an engine: it answers, sends heartbeats, and is at once done with its part of a step. */
class Worker {
  readonly over: Promise<void>;
  readonly #id: string;
  readonly #stream: ClientDuplexStream<FromWorker, CoordinatorMessage>;
  readonly #heartbeat: NodeJS.Timeout;
  #generation = 0;
  #members: { id: string; firstSlot: number; endSlot: number }[] = [];
  #configHash = '';
  #held: number | null = null;

  constructor(index: number) {
    this.#id = `local-${index}`;
    const client = new Client(channelTarget(address), new LinkCredentials(null, () => {}), controlOptions);
    this.#stream = client.Session!() as ClientDuplexStream<FromWorker, CoordinatorMessage>;
    this.over = new Promise<void>((resolve) => {
      for (const end of ['error', 'end']) this.#stream.once(end, () => resolve());
    }).then(() => {
      clearInterval(this.#heartbeat);
      client.close();
    });
    this.#stream.on('data', (message: CoordinatorMessage) => this.#receive(message));
    sessions[index] = this;
    this.#send({
      join: {
        protocol: PROTOCOL,
        workerId: this.#id,
        host: 'a-host-of-a-cluster',
        pid: 1_000_000 + index,
        dataAddress: '',
        localAddress: `unix-abstract:orchestrator-${index.toString(16).padStart(32, '0')}`,
        machine: '4026531836/00000000-0000-0000-0000-000000000000',
        sharedMemory: '',
        ownAccord: true,
      },
    });
    this.#heartbeat = setInterval(() => this.#send({ heartbeat: { ticks: 1 } }), HEARTBEAT_MS);
  }

  close(): void {
    this.#stream.end();
  }

  #send(message: FromWorker): void {
    if (!this.#stream.writable) return;
    this.#stream.write({ generation: this.#generation, ...message });
    times.messages++;
  }

  #receive({ generation, welcome, form, sync, start, commit, stop }: CoordinatorMessage): void {
    if (stop) process.exit(0);
    if (welcome) {
      this.#configHash = canonicalHash(JSON.parse(welcome.configJson));
      this.#send({ standby: { arithmetic: 'device cpu' } });
    } else if (form) {
      this.#generation = generation;
      this.#members = form.members;
      this.#send({ formed: this.#held === null ? {} : { held: { step: this.#held } } });
    } else if (sync) {
      this.#held = sync.holders?.step ?? this.#held ?? 0;
      const ready = { step: this.#held, configHash: this.#configHash, datasetHash: 'd', stateHash: 's' };
      this.#send({ ready });
    } else if (start) {
      begins();
      if (start.stop) this.#finish(start.step);
      else void this.#compute(start.step);
    } else if (commit) {
      const times = steps.get(commit.step);
      if (times !== undefined) times.committed = performance.now();
      if (commit.stop) this.#finish(commit.step);
      else void this.#compute(commit.step);
    }
  }

  /** There is no state to save. */
  #finish(step: number): void {
    this.#send({ applied: { step, stateHash: 's' } });
    const failure = {
      code: 'ERR_CHECKPOINT_WRITE',
      message: 'workers without engines have no state',
      hint: '',
    };
    if (this.#members[0]!.id === this.#id) this.#send({ notSaved: { step, failure } });
    this.#send({ finished: {} });
  }

  async #compute(held: number): Promise<void> {
    const generation = this.#generation;
    this.#held = held;
    await turn;
    if (generation !== this.#generation) return;
    const { firstSlot, endSlot } = this.#members.find(({ id }) => id === this.#id)!;
    const slots = Array.from({ length: endSlot - firstSlot }, (_, i) => ({
      slot: firstSlot + i,
      losses: [1],
      samples: [firstSlot + i],
      times: [0.5],
    }));
    const step = held + 1;
    this.#send({ prepared: { step, slots, gradientNorm: 1, nonFinite: [], numbers } });
    const now = performance.now();
    steps.set(step, { prepared: now, committed: steps.get(step)?.committed ?? now });
  }
}

function fail(error: Error): void {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
}

for (let index = 0; index < workers; index++) work(index).catch(fail);
await beginning;
process.send!('all train');
let losing: NodeJS.Timeout | undefined;
process.on('message', ({ loseEveryMs }: SessionsChange) => {
  clearInterval(losing);
  times.commits = [...steps.values()].map(({ prepared, committed }) => (committed - prepared) / 1e3);
  process.send!(times);
  steps.clear();
  Object.assign(times, { messages: 0, regroupings: [] });
  if (loseEveryMs === null) return;
  losing = setInterval(() => {
    cause = performance.now();
    sessions[Math.floor(Math.random() * workers)]!.close();
  }, loseEveryMs);
});
