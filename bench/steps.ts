/**
 * Whole training steps at a shape: model FLOP/s against the matmul peak of the same rounds, interleaved with
 * PyTorch's.
 */
import { native } from '../src/native/load.js';
import { choice, type EngineRound, type Precision, startEngine } from './engine.js';
import { stepGoal } from './goals.js';
import { fasterPrecision, PEER_MODES, startPeer, type Torch } from './peer.js';
import { gigaflops, goal, mebibytes, median, milliseconds, percent, print, table } from './report.js';
import { type RoundProcess, samplesPerSecond, stepSeconds, type Timed } from './round-process.js';
import type { BenchShape } from './shapes.js';

export interface StepsOptions {
  precision: Precision;
  /** Null = the faster one for the shape and mode. */
  peerPrecision: Precision | null;
  threads: number;
  rounds: number;
  seconds: number;
  torch: Torch | null;
}

interface Opponent {
  name: string;
  process: RoundProcess;
  rounds: Timed[];
}

/** Each round measures the peak, our steps, the peak again, and each peer's steps. */
export async function benchSteps(shape: BenchShape, options: StepsOptions): Promise<void> {
  const { precision, threads, rounds, seconds } = options;
  print(`\n## ${shape.name}\n`);
  const { process: engine, ready } = await startEngine(choice(shape, precision, threads));
  await engine.run(0.5);
  const opponents = await startOpponents(shape, ready.flopsPerStep, options);
  const probe = () => native().matmulPeak(precision, 1024, 1024, 1024, threads, 0.5);
  const peaks: number[] = [];
  const own: EngineRound[] = [];
  for (let i = 0; i < rounds; i++) {
    // One step is not timed: data that was idle while others ran may have to be fetched back into memory.
    await engine.run(0);
    const before = await probe();
    own.push(await engine.run(seconds));
    peaks.push((before + (await probe())) / 2);
    for (const peer of opponents) {
      await peer.process.run(0);
      peer.rounds.push(await peer.process.run(seconds));
    }
  }
  for (const { process } of [...opponents, { process: engine }]) await process.stop();

  const flops = (round: Timed) => ready.flopsPerStep / stepSeconds(round);
  // The clock frequency varies, so each round's rate is compared with the peak around it.
  const ofPeak = (all: Timed[]) => median(all.map((round, i) => flops(round) / (peaks[i] as number)));
  const factor = (all: Timed[]) => median(all.map((round, i) => flops(own[i] as Timed) / flops(round)));
  const memory = (all: Timed[]) => Math.max(...all.map((round) => round.peakBytes));
  const row = (name: string, all: Timed[], ratio: string) => [
    name,
    gigaflops(median(all.map(flops))),
    percent(ofPeak(all)),
    median(all.map((round) => samplesPerSecond(shape.globalBatch, round))).toFixed(1),
    milliseconds(median(all.map(stepSeconds))),
    mebibytes(memory(all)),
    ratio,
  ];
  const sum = (of: (round: EngineRound) => number) => own.reduce((total, round) => total + of(round), 0);
  print(
    `matmul peak ${gigaflops(median(peaks))} (${precision}, 1024^3 on each thread, sustained, around each of ${rounds} rounds)`,
  );
  print(`model: ${ready.parameters} parameters, ${(ready.flopsPerStep / 1e9).toFixed(1)} GFLOP a step\n`);
  print(
    table(
      ['', 'model FLOP/s', 'of peak', 'samples/s', 'step', 'peak memory', 'orchestrator is'],
      [
        row(`orchestrator, ${precision}`, own, ''),
        ...opponents.map(({ name, rounds: all }) => row(name, all, `${factor(all).toFixed(2)} x`)),
      ],
    ),
  );
  const gathering =
    sum((r) => r.gatherSeconds) /
    Math.max(
      1e-9,
      sum((r) => r.gatherSeconds + r.computeSeconds),
    );
  print(
    `\norchestrator: ${percent(ofPeak(own))} of peak; data loading ${percent(gathering)} of the compute threads' time; ` +
      `norm and update ${percent(sum((r) => r.updateSeconds) / sum((r) => r.seconds))} of the step; ` +
      `event-loop delay p99 ${milliseconds(own.at(-1)?.eventLoopP99Seconds ?? 0)}`,
  );
  const wanted = stepGoal(native().host().isa, precision, shape);
  if (wanted !== null) goal(`${percent(wanted.ofPeak)} of peak`, ofPeak(own) >= wanted.ofPeak);
  const [better] = [...opponents].sort((a, b) => factor(a.rounds) - factor(b.rounds));
  if (better === undefined) return;
  if (wanted !== null) {
    const reached = factor(better.rounds) >= wanted.factor;
    goal(`${wanted.factor} x the better of PyTorch's (${better.name})`, reached);
  }
  goal(
    "less memory than PyTorch's",
    opponents.every(({ rounds: all }) => memory(own) < memory(all)),
  );
}

async function startOpponents(
  shape: BenchShape,
  flopsPerStep: number,
  { torch, peerPrecision }: StepsOptions,
): Promise<Opponent[]> {
  if (torch === null) return [];
  const chosen: { mode: (typeof PEER_MODES)[number]; precision: Precision }[] = [];
  for (const mode of PEER_MODES) {
    if (peerPrecision !== null) {
      chosen.push({ mode, precision: peerPrecision });
      continue;
    }
    const { precision, note } = await fasterPrecision(torch, shape, flopsPerStep, mode);
    print(note);
    chosen.push({ mode, precision });
  }
  const opponents: Opponent[] = [];
  for (const { mode, precision } of chosen) {
    const process = await startPeer(torch, shape, mode, precision);
    opponents.push({ name: `PyTorch ${mode}, ${precision}`, process, rounds: [] });
  }
  return opponents;
}
