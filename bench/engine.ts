/** Starts our engine in a process of its own, so that its memory can be measured. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { EngineSpec } from '../src/native/contract.js';
import { RoundProcess, type Timed } from './round-process.js';
import type { BenchShape } from './shapes.js';

export type Precision = EngineSpec['precision'];

export interface EngineChoice {
  shape: BenchShape;
  precision: Precision;
  threads: number;
  threadsPerSlot: number;
}

export interface EngineReady {
  parameters: number;
  flopsPerStep: number;
}

export interface EngineRound extends Timed {
  gatherSeconds: number;
  computeSeconds: number;
  updateSeconds: number;
  /** Peak since the process started. */
  eventLoopP99Seconds: number;
}

const SCRIPT = fileURLToPath(new URL('./engine-process.js', import.meta.url));

/** Threads share a slot if there are fewer slots than threads. */
export function choice(shape: BenchShape, precision: Precision, threads: number): EngineChoice {
  const slots = shape.globalBatch / shape.microBatch;
  return { shape, precision, threads, threadsPerSlot: Math.max(1, Math.floor(threads / slots)) };
}

/**
 * The process of the checkout that the addon belongs to, if its benches are compiled: the boundary between
 * TypeScript and the addon changes from version to version. Otherwise this build's.
 */
function scriptFor(addon: string | null): string {
  if (addon === null) return SCRIPT;
  const own = join(dirname(addon), '../bench/bench/engine-process.js');
  return existsSync(own) ? own : SCRIPT;
}

/** @param addon The file of another build's addon; null = this build's. */
export function startEngine(
  chosen: EngineChoice,
  addon: string | null = null,
): Promise<{ process: RoundProcess<EngineRound>; ready: EngineReady }> {
  return RoundProcess.start(
    addon ?? 'orchestrator',
    process.execPath,
    [scriptFor(addon), JSON.stringify(chosen)],
    addon === null ? {} : { ORCHESTRATOR_ADDON: addon },
  );
}
