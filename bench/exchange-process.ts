/** One worker of the exchange bench; see exchange.ts. */
import { once } from 'node:events';
import { native } from '../src/native/load.js';
import { assignSlots } from '../src/step/assignment.js';
import { exchangeLayout } from '../src/worker/collective/exchange.js';
import { GrpcCollective, PeerServer } from '../src/worker/collective/grpc.js';
import type { ExchangeOrders, ExchangeTimes } from './exchange.js';

const WARM_UP = 3;
/** Buckets of a model of a few blocks. */
const BUCKETS = 8;

const peers = new PeerServer((message) => process.stderr.write(`${message}\n`));
const address = await peers.listenLocally();
const start = once(process, 'message');
process.send!(address);
const [{ rank, addresses, bytes, rounds }] = (await start) as [ExchangeOrders];

const workers = addresses.length;
const length = Math.floor(bytes / 4 / BUCKETS / 16) * 16;
const layout = Array.from({ length: BUCKETS }, (_, i) => ({ offset: (BUCKETS - 1 - i) * length, length }));
const slots = assignSlots(workers, workers);
const sum = layout.map(() => new Float32Array(length).fill(1));
const collective = await GrpcCollective.connect({
  state: () => null,
  signal: new AbortController().signal,
  // It stands for an engine that has gradients alone. The norm is not part of the exchange.
  gradients: {
    gradientParts: () => [{ ...slots[rank]!, buckets: sum }],
    gradient: () => sum,
    reduce: () => Promise.resolve({ norm: 0, firstNonFinite: -1, receivedBytes: 0 }),
  },
  layout: exchangeLayout(rank, slots, layout, native().addInto),
  generation: 1,
  server: peers,
  links: addresses.map((address) => ({ address, proof: null })),
});
const seconds: number[] = [];
let before = process.cpuUsage();
for (let step = 1; step <= WARM_UP + rounds; step++) {
  if (step === WARM_UP + 1) before = process.cpuUsage();
  const started = performance.now();
  const onBucket = collective.begin(step);
  for (let bucket = 0; bucket < BUCKETS; bucket++) onBucket(bucket);
  await collective.reduce();
  if (step > WARM_UP) seconds.push((performance.now() - started) / 1e3);
}
const { user, system } = process.cpuUsage(before);
const expected = workers ** (WARM_UP + rounds);
if (!sum.every((bucket) => bucket.every((value) => value === expected))) throw new Error('wrong sums');
process.send!({ seconds, processor: (user + system) / 1e6 / rounds } satisfies ExchangeTimes);
