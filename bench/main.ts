/**
 * npm run bench -- [--only PARTS] [--rounds N] [--seconds S] [--shapes PART] [--precision fp32|bf16] [--no-peers]
 * npm run bench -- --only data [--parquet PATH]
 * npm run bench -- --only large [--folder FOLDER]
 * npm run bench -- --against CHECKOUT_OR_ADDON [--rounds N] [--seconds S] [--shapes PART] [--precision fp32|bf16]
 *
 * What each part measures: bench/README.md.
 */
import { existsSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir, totalmem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { resolvePrecision } from '../src/engine/precision.js';
import { native } from '../src/native/load.js';
import { addonOf, compareBuilds } from './compare.js';
import { benchData } from './data.js';
import type { Precision } from './engine.js';
import { benchExchange } from './exchange.js';
import { heldTo } from './instruction-set.js';
import { benchLarge } from './large.js';
import { benchNodes } from './nodes.js';
import { findTorch } from './peer.js';
import { benchRecovery } from './recovery.js';
import { mebibytes, percent, print } from './report.js';
import { benchScaling } from './scaling.js';
import { benchScrape } from './scrape.js';
import { benchSessions } from './sessions.js';
import { SHAPES } from './shapes.js';
import { benchStart } from './start.js';
import { benchSteps } from './steps.js';
import { benchStreams } from './streams.js';

const PARTS = [
  'steps',
  'nodes',
  'scaling',
  'exchange',
  'streams',
  'sessions',
  'start',
  'recovery',
  'scrape',
  'data',
  'large',
];

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', default: 'steps,nodes,scaling' },
    folder: { type: 'string', default: tmpdir() },
    parquet: { type: 'string' },
    shapes: { type: 'string', default: '' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '4' },
    precision: { type: 'string', default: 'auto' },
    'no-peers': { type: 'boolean', default: false },
    against: { type: 'string' },
  },
});
const parts = options.only.split(',');
for (const part of parts) oneOf('--only', part, PARTS);
const asked = oneOf('--precision', options.precision, ['auto', 'fp32', 'bf16']) as Precision | 'auto';
const rounds = positive('--rounds', options.rounds);
const seconds = positive('--seconds', options.seconds);
const shapes = SHAPES.filter(({ name }) => name.includes(options.shapes));
if (shapes.length === 0) refuse(`--shapes: none of the shapes' names contains "${options.shapes}"`);
const threads = availableParallelism();

const host = native().host();
const precision = resolvePrecision({ compute: asked, linear: 'compute' }, host).compute;
print(
  `${new Date().toISOString().slice(0, 10)}, ${cpus()[0]?.model.trim()}, ${threads} threads, ${mebibytes(totalmem())}`,
);
print(`instruction set ${host.isa}, precision ${precision}, Node.js ${process.versions.node}`);
const busy = await busyShare(2000);
if (busy > 0.05) {
  print(
    `Other work keeps ${percent(busy)} of the processors busy: the figures will be too low, and PyTorch's lower still.`,
  );
}

if (options.against !== undefined) {
  const other = addonOf(options.against);
  if (!existsSync(other)) refuse(`--against: no addon at ${other}`);
  for (const shape of shapes) await compareBuilds(shape, other, { precision, threads, rounds, seconds });
} else {
  if (parts.includes('steps')) {
    const { torch, note } = options['no-peers']
      ? { torch: null, note: 'PyTorch left out' }
      : findTorch(threads, heldTo(process.env.ORCHESTRATOR_ISA));
    print(note);
    const peerPrecision = asked === 'auto' ? null : asked;
    for (const shape of shapes)
      await benchSteps(shape, { precision, peerPrecision, threads, rounds, seconds, torch });
  }
  if (parts.includes('nodes')) benchNodes(rounds, asked);
  if (parts.includes('exchange')) await benchExchange();
  if (parts.includes('streams')) await benchStreams();
  if (parts.includes('sessions')) await benchSessions();
  if (parts.includes('start')) await benchStart(rounds);
  if (parts.includes('recovery')) await benchRecovery(rounds);
  if (parts.includes('scrape')) await benchScrape();
  if (parts.includes('data')) await benchData(options.parquet ?? null);
  if (parts.includes('large')) await benchLarge(options.folder, threads);
  if (parts.includes('scaling')) await benchScaling(rounds, seconds, asked === 'auto' ? 'fp32' : asked);
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) refuse(`${name}: expected a positive number, received "${text}"`);
  return value;
}

function oneOf(name: string, value: string, allowed: string[]): string {
  if (!allowed.includes(value)) refuse(`${name}: expected one of ${allowed.join(', ')}, received "${value}"`);
  return value;
}

function refuse(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}

/** The share of all processors' time in which they are busy while this process sleeps. */
async function busyShare(forMilliseconds: number): Promise<number> {
  const read = () =>
    cpus().reduce(
      ({ idle, all }, { times }) => ({
        idle: idle + times.idle,
        all: all + times.user + times.nice + times.sys + times.irq + times.idle,
      }),
      { idle: 0, all: 0 },
    );
  const before = read();
  await sleep(forMilliseconds);
  const after = read();
  return 1 - (after.idle - before.idle) / Math.max(1, after.all - before.all);
}
