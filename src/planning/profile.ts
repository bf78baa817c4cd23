/** The time of each operation of a slot's forward and backward pass, compared with the machine's roofline. */
import type { Config } from '../config/schema.js';
import { describePrecision } from '../engine/precision.js';
import { trainingEngine } from '../engine/spec.js';
import type { EngineSpec, NativeAddon, ProfileRow } from '../native/contract.js';
import { findGpu } from '../native/cuda.js';
import { hostOf } from '../native/host.js';
import { shapesOf } from './data-shapes.js';
import { leastTime, type Rates } from './estimate.js';

export type Profile = Awaited<ReturnType<typeof profile>>;

const PEAK_SIDE = 1024;
const PEAK_SECONDS = 0.4;
const COPY_BYTES = 128 * 1024 ** 2;
const COPIES = 12;
/** Passes are repeated for about this long if no number is given. */
const PROFILE_SECONDS = 3;
const MOST_REPEATS = 100;

/**
 * Builds the engine of a configuration on one thread or its GPU, runs passes of one slot, and measures the
 * matmul peak and copy bandwidth before and after them.
 *
 * @param repeats Passes to average; null = as many as take about three seconds.
 */
export async function profile(addon: NativeAddon, config: Config, repeats: number | null) {
  const gpu = config.device === 'cuda' ? await findGpu(addon) : null;
  const device = gpu?.ordinal ?? null;
  const shapes = await shapesOf(config);
  const { spec: trained, precision } = trainingEngine(config, shapes, hostOf(addon), 1, device);
  const spec: EngineSpec = { ...trained, threads: 1, threadsPerSlot: 1, ema: false };
  // On a GPU this comes before the engine allocates its memory, because the copies are large.
  const before = await measureRoofline(addon, spec);
  const engine = await addon.createEngine(spec);
  try {
    await engine.initialize(BigInt(config.seed));
    const warmUp = secondsOf(await engine.profile(1));
    const times = repeats ?? Math.ceil(PROFILE_SECONDS / warmUp);
    const count = Math.max(1, Math.min(times, MOST_REPEATS));
    const rows = await engine.profile(count);
    // The clock frequency varies, so the better of two measurements counts.
    const after = device === null ? await measureRoofline(addon, spec) : before;
    const roofline = {
      flops: Math.max(before.flops, after.flops),
      bandwidth: Math.max(before.bandwidth, after.bandwidth),
    };
    const seconds = secondsOf(rows);
    const modelFlops = engine.layout().flops;
    return {
      spec,
      /** Name of the GPU; null on the CPU. */
      gpu: gpu?.name ?? null,
      precision: describePrecision(precision),
      /** What computes the attention; null on the CPU. */
      attention: await engine.attentionBy(),
      /** What a large matmul and a large copy reach on one thread or the GPU. */
      roofline,
      repeats: count,
      /** Slowest first. */
      ops: rows.map((row) => againstRoofline(row, roofline, seconds)).sort((a, b) => b.seconds - a.seconds),
      /** Seconds of a micro-batch's pass on one thread, or on the GPU with one operation after the other. */
      seconds,
      /** Model FLOPs of a micro-batch: 3 x forward, no credit for recomputation. */
      modelFlops,
      /** Model FLOP/s over the matmul peak. */
      utilization: modelFlops / seconds / roofline.flops,
    };
  } finally {
    await engine.close();
  }
}

function secondsOf(rows: readonly ProfileRow[]): number {
  return rows.reduce((sum, { seconds }) => sum + seconds, 0);
}

/**
 * An operation with its share of the time of the pass, and the least time that the roofline allows over the
 * time taken, which is above 1 if operands stay in caches.
 */
export function againstRoofline(row: ProfileRow, roofline: Rates, total: number) {
  const { seconds, bound } = leastTime(row, roofline);
  return { ...row, share: row.seconds / total, ofRoofline: seconds / row.seconds, bound };
}

async function measureRoofline(addon: NativeAddon, { device, precision }: EngineSpec): Promise<Rates> {
  if (device !== null) return await addon.deviceCeilings(device, precision);
  const flops = await addon.matmulPeak(precision, PEAK_SIDE, PEAK_SIDE, PEAK_SIDE, 1, PEAK_SECONDS);
  return { flops, bandwidth: copyBandwidth() };
}

/** The best of a few copies too large for caches; bytes read and bytes written both count. */
export function copyBandwidth(copies = COPIES): number {
  const from = new Uint8Array(COPY_BYTES).fill(1);
  const to = new Uint8Array(COPY_BYTES).fill(2);
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < copies; i++) {
    const started = performance.now();
    to.set(from);
    best = Math.min(best, performance.now() - started);
  }
  return (2 * COPY_BYTES) / (best / 1000);
}
