/** PyTorch processes that train the same model. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { contextTokens, hiddenOf } from '../src/native/specs.js';
import type { Precision } from './engine.js';
import type { Held } from './instruction-set.js';
import { RoundProcess, stepSeconds } from './round-process.js';
import type { BenchShape } from './shapes.js';

export type PeerMode = 'eager' | 'compiled';
export const PEER_MODES: PeerMode[] = ['eager', 'compiled'];

/** What bench/peers/probe_torch.py prints. */
interface Probe {
  torch: string;
  capability: string;
  inductor: string;
  fp32Matmul: 'highest' | 'medium';
  /** FLOP/s of a matmul on all threads. */
  rates: Record<Precision, number>;
}

/** A Python with torch >= 2. */
export interface Torch extends Probe {
  python: string;
  threads: number;
  held: Held;
}

/** Both precisions are tried at the smallest shape, unless a step would take longer than this. */
const TRIAL_SECONDS = 20;
/**
 * At other shapes both are tried if their matmul rates are within this factor; otherwise the faster matmul
 * decides.
 */
const CLOSE = 1.5;

/** The path of a peer's script. This module runs from build/bench/bench/. */
const script = (name: string) => fileURLToPath(new URL(`../../../bench/peers/${name}`, import.meta.url));

/**
 * The Python in ORCHESTRATOR_PYTHON, or python3, with torch >= 2; null, and the reason, if there is none.
 *
 * @throws Error when its libraries do not keep to the instruction set of ORCHESTRATOR_ISA.
 */
export function findTorch(threads: number, held: Held): { torch: Torch | null; note: string } {
  const python = process.env.ORCHESTRATOR_PYTHON ?? 'python3';
  const run = (args: string[]) =>
    spawnSync(python, args, { encoding: 'utf8', env: { ...process.env, ...held.environment } });
  const { status, error } = run([
    '-W',
    'ignore',
    '-c',
    'import torch; assert int(torch.__version__.split(".")[0]) >= 2',
  ]);
  if (status !== 0) {
    const why = error ? ` (${error.message})` : '';
    return {
      torch: null,
      note: `no PyTorch >= 2 in ${python}${why}; set ORCHESTRATOR_PYTHON to compare with it`,
    };
  }
  const probed = run([script('probe_torch.py'), String(threads), String(held.simdBits ?? 'none')]);
  if (probed.status !== 0) throw new Error(`probe_torch.py ended with ${probed.status}:\n${probed.stderr}`);
  const probe = JSON.parse(probed.stdout.trim().split('\n').at(-1) as string) as Probe;
  if (held.capability !== null && probe.capability !== held.capability)
    throw new Error(`PyTorch should use ${held.capability}, but uses ${probe.capability}`);
  return { torch: { ...probe, python, threads, held }, note: describe(probe, held) };
}

function describe({ torch, capability, inductor, fp32Matmul, rates }: Probe, { environment }: Held): string {
  const variables = Object.entries(environment).map((pair) => pair.join('='));
  const gigaflops = (rate: number) => (rate / 1e9).toPrecision(3);
  const library = fp32Matmul === 'medium' ? ' (set_float32_matmul_precision "medium": oneDNN)' : '';
  return [
    `PyTorch ${torch}, ${variables.length === 0 ? 'free to use what the machine has' : `held to ${variables.join(' ')}`}: ` +
      `kernels ${capability}, TorchInductor ${inductor}`,
    `PyTorch's matmuls, 512^3 on all threads: fp32 ${gigaflops(rates.fp32)} GF/s${library}, bf16 ${gigaflops(rates.bf16)} GF/s`,
  ].join('\n');
}

/** Resolves when the model is built, compiled and warm. */
export async function startPeer(
  torch: Torch,
  shape: BenchShape,
  mode: PeerMode,
  precision: Precision,
): Promise<RoundProcess> {
  const spec = {
    ...shape.model,
    hidden: hiddenOf(shape.model),
    latentHeight: shape.latentHeight,
    latentWidth: shape.latentWidth,
    contextTokens: contextTokens(shape.text),
    batch: shape.globalBatch,
    threads: torch.threads,
    fp32Matmul: torch.fp32Matmul,
    simdBits: torch.held.simdBits,
  };
  const { process } = await RoundProcess.start(
    `PyTorch ${mode}, ${precision}`,
    torch.python,
    [script('mmdit_torch.py'), JSON.stringify(spec), mode, precision],
    torch.held.environment,
  );
  return process;
}

/** The precision in which PyTorch is faster at a shape, and how that was found. */
export async function fasterPrecision(
  torch: Torch,
  shape: BenchShape,
  flopsPerStep: number,
  mode: PeerMode,
): Promise<{ precision: Precision; note: string }> {
  const all: Precision[] = ['fp32', 'bf16'];
  const expected = (precision: Precision) => flopsPerStep / torch.rates[precision];
  const fastest = Math.min(...all.map(expected));
  const limit = shape.size === 'smallest' ? Math.max(TRIAL_SECONDS, fastest) : CLOSE * fastest;
  const seconds = new Map<Precision, number>();
  const notes: string[] = [];
  for (const precision of all) {
    if (expected(precision) > limit) {
      notes.push(`${precision} not tried (its matmuls alone: ${expected(precision).toFixed(1)} s a step)`);
      continue;
    }
    const peer = await startPeer(torch, shape, mode, precision);
    const step = Math.min(stepSeconds(await peer.run(1)), stepSeconds(await peer.run(1)));
    await peer.stop();
    seconds.set(precision, step);
    notes.push(`${precision} ${step.toFixed(3)} s a step`);
  }
  const [[precision]] = [...seconds].sort(([, a], [, b]) => a - b) as [[Precision, number]];
  return { precision, note: `PyTorch ${mode}: ${notes.join(', ')}` };
}
