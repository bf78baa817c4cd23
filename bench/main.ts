/**
 * npm run bench -- [--rounds N] [--seconds S] [--shapes PART] [--no-peers] [--no-nodes]
 *
 * Whole training steps at several shapes, as model FLOP/s against the matmul peak measured in the same rounds, interleaved
 * with PyTorch's where it can be imported; then whole runs on one and on several workers.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { HostInfo } from '../src/native/contract.js';
import { native } from '../src/native/load.js';
import { NodesBench, type NodesRound } from './nodes.js';
import { findPython, PEER_SCRIPT, Peer, type PeerRound } from './peer.js';
import { gigaflops, mebibytes, median, milliseconds, percent, table } from './report.js';
import { type BenchShape, FACTOR, type PeerMode, SHAPES } from './shapes.js';
import { BenchTrainer, type Round } from './trainer.js';

/** Of a whole run: longer than the window over which a worker takes its event loop's percentile. */
const NODES_STEPS = 240;
const DELAY_RESOLUTION_MS = 10;

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '4' },
    shapes: { type: 'string', default: '' },
    'no-peers': { type: 'boolean', default: false },
    'no-nodes': { type: 'boolean', default: false },
  },
});
setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
const rounds = Number(options.rounds);
const seconds = Number(options.seconds);
const threads = availableParallelism();
const print = (line = '') => process.stdout.write(`${line}\n`);

const host = native().host();
print(
  `${new Date().toISOString().slice(0, 10)}, ${cpus()[0]?.model.trim()}, ${threads} threads, ${mebibytes(totalmem())}`,
);
print(`instruction set ${host.isa}, oneDNN ${host.onednn}, Node.js ${process.versions.node}`);
const peers = options['no-peers'] ? { python: null, note: 'PyTorch left out' } : findPython();
print(peers.note);
const busy = await busyShare(2000);
if (busy > 0.05) {
  print(
    `Other work keeps ${percent(busy)} of the processors busy: the figures will be too low, and PyTorch's lower still.`,
  );
}

for (const shape of SHAPES.filter(({ name }) => name.includes(options.shapes)))
  await benchShape(shape, host, peers.python);
if (!options['no-nodes']) benchNodes();

/** Rounds of: peak, own steps, each peer's steps. */
async function benchShape(shape: BenchShape, machine: HostInfo, python: string | null): Promise<void> {
  print(`\n## ${shape.name}\n`);
  // The engine of the shape before goes with the last that refers to it; then the peak of memory starts anew.
  collectGarbage();
  await sleep(200);
  writeFileSync('/proc/self/clear_refs', '5');
  const folder = mkdtempSync(join(tmpdir(), 'orchestrator-bench-'));
  const trainer = new BenchTrainer(shape, machine, threads, join(folder, 'data.bin'));
  await trainer.initialize();
  await trainer.run(0.5);
  const opponents: Peer[] = [];
  for (const mode of python === null ? [] : (['eager', 'compiled'] as PeerMode[])) {
    const { peer } = await Peer.start(python as string, PEER_SCRIPT, shape, mode, threads);
    opponents.push(peer);
  }
  const probe = () => native().matmulPeak(trainer.precision, 1024, 1024, 1024, threads, 0.5);
  const peaks: number[] = [];
  const own: Round[] = [];
  const theirs = new Map<Peer, PeerRound[]>(opponents.map((peer) => [peer, []]));
  // Each of its timers interrupts a compute thread, and the others wait for it: at 1 ms, for 5 % of a step.
  const delay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
  for (let i = 0; i < rounds; i++) {
    // One step beforehand: what lay idle while others ran may have to be fetched back into memory.
    await trainer.run(0);
    const before = await probe();
    delay.enable();
    own.push(await trainer.run(seconds));
    delay.disable();
    peaks.push((before + (await probe())) / 2);
    for (const peer of opponents) {
      await peer.run(0);
      theirs.get(peer)?.push(await peer.run(seconds));
    }
  }
  for (const peer of opponents) peer.stop();

  const flops = (round: { steps: number; seconds: number }) =>
    (trainer.flopsPerStep * round.steps) / round.seconds;
  const samples = (round: { steps: number; seconds: number }) =>
    (shape.globalBatch * round.steps) / round.seconds;
  const peak = median(peaks);
  // Machines change their clock: each round's rate against the peak around it.
  const ofPeak = (all: { steps: number; seconds: number }[]) =>
    median(all.map((round, i) => flops(round) / (peaks[i] as number)));
  const row = (name: string, all: { steps: number; seconds: number }[], memory: number, ratio: string) => [
    name,
    gigaflops(median(all.map(flops))),
    percent(ofPeak(all)),
    median(all.map(samples)).toFixed(1),
    milliseconds(median(all.map((round) => round.seconds / round.steps))),
    mebibytes(memory),
    ratio,
  ];
  const ratios = new Map<PeerMode, number>();
  for (const [peer, all] of theirs) {
    ratios.set(peer.mode, median(all.map((round, i) => flops(own[i] as Round) / flops(round))));
  }
  const memory = peakResident();
  const sum = (of: (round: Round) => number) => own.reduce((total, round) => total + of(round), 0);
  print(
    `matmul peak ${gigaflops(peak)} (${trainer.precision}, 1024^3 on each thread, sustained, around each of ${rounds} rounds)`,
  );
  print(`model: ${trainer.parameters} parameters, ${(trainer.flopsPerStep / 1e9).toFixed(1)} GFLOP a step\n`);
  print(
    table(
      ['', 'model FLOP/s', 'of peak', 'samples/s', 'step', 'peak memory', 'orchestrator is'],
      [
        row('orchestrator', own, memory, ''),
        ...[...theirs].map(([peer, all]) =>
          row(
            `PyTorch ${peer.mode}`,
            all,
            Math.max(...all.map((round) => round.peakBytes)),
            `${ratios.get(peer.mode)?.toFixed(2)} x`,
          ),
        ),
      ],
    ),
  );
  print(
    `\norchestrator: ${percent(ofPeak(own))} of peak; data loading ${percent(sum((r) => r.gatherSeconds) / sum((r) => r.gatherSeconds + r.computeSeconds))} ` +
      `of the compute threads' time; norm and update ${percent(sum((r) => r.updateSeconds) / sum((r) => r.seconds))} of the step; ` +
      `event-loop delay p99 ${milliseconds(delay.percentile(99) / 1e9 - DELAY_RESOLUTION_MS / 1000)}`,
  );
  const goal = (name: string, reached: boolean) => print(`goal: ${name}: ${reached ? 'reached' : 'MISSED'}`);
  if (shape.ofPeak !== null) goal(`${percent(shape.ofPeak)} of peak`, ofPeak(own) >= shape.ofPeak);
  if (theirs.size > 0) {
    goal(`${FACTOR} x the better of PyTorch's`, Math.min(...ratios.values()) >= FACTOR);
    goal(
      "less memory than PyTorch's",
      memory < Math.min(...[...theirs.values()].flat().map((r) => r.peakBytes)),
    );
  }
  trainer.engine.close();
  rmSync(folder, { recursive: true, force: true });
}

/** The most memory, in bytes, that this process had resident since the shape began. */
function peakResident(): number {
  const status = readFileSync('/proc/self/status', 'utf8');
  return 1024 * Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]);
}

/** `launch --nodes 1` with all threads against `--nodes P` with one each, alternating. */
function benchNodes(): void {
  print(`\n## Whole runs: orchestrator launch, the demo's model, batch 64\n`);
  const cli =
    process.env.ORCHESTRATOR_CLI ?? fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));
  const bench = new NodesBench(cli, NODES_STEPS);
  const one: NodesRound[] = [];
  const many: NodesRound[] = [];
  const nodes = 2;
  for (let i = 0; i < rounds; i++) {
    one.push(bench.run(1, nodes));
    many.push(bench.run(nodes, 1));
  }
  bench.close();
  const row = (name: string, all: NodesRound[]) => [
    name,
    median(all.map((r) => r.samplesPerSecond)).toFixed(0),
    percent(median(all.map((r) => r.exchange))),
    percent(median(all.map((r) => r.gather))),
    milliseconds(Math.max(...all.map((r) => r.eventLoopP99Seconds))),
  ];
  print(
    table(
      ['', 'samples/s', 'exchange', 'data loading', 'event-loop p99'],
      [row(`1 node, ${nodes} threads`, one), row(`${nodes} nodes, 1 thread each`, many)],
    ),
  );
  const share = median(
    many.map((round, i) => round.samplesPerSecond / (one[i] as NodesRound).samplesPerSecond),
  );
  print(
    `\n${nodes} nodes reach ${percent(share)} of one node's samples/s; goal 95 %: ${share >= 0.95 ? 'reached' : 'MISSED'}`,
  );
}

/** Share of all processors' time in which they are not idle, while this process sleeps. */
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
