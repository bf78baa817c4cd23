// The gradient exchange alone, over loopback: node bench/exchange.mjs [workers=2] [megabytes=64] [rounds=12]
// Prints the bus bandwidth as collectives are compared (bytes * 2 (P - 1) / P / time) and the processor time
// it costs. Every worker is a process; the data plane is the one of a run (dist/worker/collective). Needs
// `npm run build`.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { WORKER_OPTIONS } from '../dist/launch/commands.js';
import { native } from '../dist/native/load.js';
import { localAddress } from '../dist/rpc/grpc-stream.js';
import { assignSlots } from '../dist/step/tree.js';
import { exchangeLayout } from '../dist/worker/collective/exchange.js';
import { GrpcCollective, PeerServer } from '../dist/worker/collective/grpc.js';

const WARM_UP = 3;
/** Buckets of a model of a few blocks. */
const BUCKETS = 8;

const [workers = 2, megabytes = 64, rounds = 12] = process.argv.slice(2).map(Number);
const length = Math.floor((megabytes * 1e6) / 4 / BUCKETS / 16) * 16 * BUCKETS;

if (process.send === undefined) await orchestrate();
else await work();

async function orchestrate() {
  const children = Array.from({ length: workers }, () =>
    fork(fileURLToPath(import.meta.url), process.argv.slice(2), { execArgv: WORKER_OPTIONS }),
  );
  const next = () =>
    Promise.all(children.map((child) => new Promise((resolve) => child.once('message', resolve))));
  const addresses = await next();
  const results = next();
  for (const [rank, child] of children.entries()) child.send({ rank, addresses });
  const all = await results;
  const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
  const seconds = median(all.flatMap(({ seconds }) => seconds));
  const processor = median(all.map(({ processor }) => processor));
  const bytes = length * 4;
  const bus = (bytes * 2 * (workers - 1)) / workers / seconds / 1e6;
  const each = processor / ((bytes * 2 * (workers - 1)) / workers / 1e6);
  process.stdout.write(
    `exchange of ${(bytes / 1e6).toFixed(1)} MB between ${workers} workers: ${(seconds * 1e3).toFixed(1)} ms, ` +
      `${bus.toFixed(0)} MB/s of bus bandwidth, ${(processor * 1e3).toFixed(1)} ms of processor time per worker ` +
      `(${(each * 1e3).toFixed(2)} ms per MB on the bus)\n`,
  );
  for (const child of children) child.kill();
}

async function work() {
  const peers = new PeerServer();
  const address = await peers.listen(localAddress());
  const start = new Promise((resolve) => process.once('message', resolve));
  process.send(address);
  const { rank, addresses } = await start;
  const buckets = Array.from({ length: BUCKETS }, (_, i) => ({
    offset: (BUCKETS - 1 - i) * (length / BUCKETS),
    length: length / BUCKETS,
  }));
  const slots = assignSlots(workers, workers);
  const layout = exchangeLayout(rank, slots, buckets, native().addInto);
  const collective = await GrpcCollective.connect({
    layout,
    generation: 1,
    token: 't',
    server: peers,
    addresses,
  });
  const data = new Float32Array(length).fill(1);
  const local = () => ({ parts: [{ ...slots[rank], data }], sum: data });
  const seconds = [];
  let before = process.cpuUsage();
  for (let step = 1; step <= WARM_UP + rounds; step++) {
    if (step === WARM_UP + 1) before = process.cpuUsage();
    const started = performance.now();
    collective.begin(step, local);
    for (let bucket = 0; bucket < BUCKETS; bucket++) collective.announce(bucket);
    await collective.finish();
    if (step > WARM_UP) seconds.push((performance.now() - started) / 1e3);
  }
  const { user, system } = process.cpuUsage(before);
  if (!data.every((value) => value === workers ** (WARM_UP + rounds))) throw new Error('wrong sums');
  process.send({ seconds, processor: (user + system) / 1e6 / rounds });
}
