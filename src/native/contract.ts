/**
 * The only typed boundary between TypeScript and the native addon.
 *
 * Rules: absent values are `T | null`, never optional properties, so `undefined` is always a bug. Every
 * handle is tagged natively; a wrong or closed one throws ERR_HANDLE. Options are validated in TypeScript
 * before they get here, and checked again natively where memory safety depends on them. Native errors arrive
 * as `Error` with a stable `code` ("ERR_..."). Nothing here blocks the event loop for more than about a
 * millisecond; longer work returns a promise and runs on native threads, not in libuv's pool. There are three
 * exceptions, for commands that have nothing else to do and for the beginning of a run: planFigures and
 * planOperations take up to 0.2 s for the largest models, and parameters takes a few milliseconds.
 */
import type { NativeFaults } from '../fault-points.js';
import type { Dataset, DatasetSpec } from './dataset-contract.js';
import type { Engine, EngineSpec, Group } from './engine-contract.js';
import type { ModelLayout, PlanFigures, PlannedOperation } from './engine-results.js';
import type { ModelSpec } from './specs.js';

export type * from './dataset-contract.js';
export type * from './engine-contract.js';
export type * from './engine-results.js';
export type { ModelSpec, TextSpec } from './specs.js';

/** The properties of the machine that computing depends on. */
export interface HostInfo {
  /** Kernel set in use: "generic", "avx2", "avx512", "avx512bf16", "neon" or "neonbf16". */
  isa: string;
  /** Whether bf16 matmuls run at full speed, so that `precision: auto` means bf16. */
  fastBf16: boolean;
  /**
   * Version of the kernels, raised whenever a result changes by a bit: the order of sums, the approximation
   * of functions.
   */
  kernels: string;
  /** Processors this process may run on. */
  processors: number;
}

/** A GPU that this process sees. */
export interface CudaDevice {
  /** "NVIDIA H200" */
  name: string;
  memoryBytes: number;
  /** "CUDA 13.0, cuBLASLt 13.1.1, NCCL 2.30.7" */
  libraries: string;
  /** Why the GPU cannot be used, or null. */
  problem: string | null;
}

/** dst += src, natively, on the event loop: at most 262,144 elements per call. */
export type AddInto = (dst: Float32Array, src: Float32Array) => void;

/**
 * Functions in double precision with the same bits on every machine (native/core/elementary.h); those of
 * Math, and `**` of numbers that are not constants, differ between versions of Node.js. They are correctly
 * rounded in all but about one of ten million cases. Angles beyond a million give NaN.
 */
export interface Elementary {
  exp(x: number): number;
  log(x: number): number;
  sin(x: number): number;
  cos(x: number): number;
  tan(x: number): number;
  /** NaN for infinities. */
  atan2(y: number, x: number): number;
  /** 10000^x */
  powerOf10000(x: number): number;
  /** x^n, and 1 - x^n rounded once, for x in [0, 1] and a whole number n. */
  power(x: number, n: number): number;
  oneMinusPower(x: number, n: number): number;
  /**
   * Replaces pairs of uniforms in (0, 1) by pairs of independent standard normal numbers, in place; about 5
   * million per second.
   */
  normalPairs(values: Float64Array): void;
  /**
   * [coordinates, 2 * quarter]: the sines of coordinate * 10000^(-j / quarter), then the cosines, j = 0 ...
   * quarter - 1; about 30 million per second.
   */
  encodePositions(coordinates: Float64Array, quarter: number): Float32Array;
}

export interface NativeAddon {
  elementary: Elementary;
  /** An addon for tests has it; the one that trains has no such property. */
  faults?: NativeFaults;
  /**
   * The first call that computes chooses the kernels: those that ORCHESTRATOR_ISA names, or the best. Throws ERR_ISA
   * where the processor lacks them.
   */
  host(): HostInfo;
  /** Kernel sets that this processor can run, the best first. Chooses none. */
  instructionSets(): string[];
  /**
   * Computes with this kernel set from now on. Throws ERR_ISA where the processor lacks it, and ERR_INTERNAL where it is
   * another one than that of an engine whose close() has not resolved.
   */
  useInstructionSet(isa: string): void;
  /**
   * The devices, indexed by the ordinal that EngineSpec.device means. Rejects with ERR_CUDA where there is
   * none, and says why.
   */
  cudaDevices(): Promise<CudaDevice[]>;
  /**
   * FLOP/s of a large matmul, and bytes/s that a large copy reads and writes, by the device's clock. Must not
   * run while an engine computes.
   */
  deviceCeilings(device: number, precision: 'fp32' | 'bf16'): Promise<{ flops: number; bandwidth: number }>;
  /** Rejects with ERR_MODEL_SPEC, ERR_OUT_OF_MEMORY, or ERR_CUDA where there is no such device. */
  createEngine(spec: EngineSpec): Promise<Engine>;
  createGroup(): Group;
  /** Names, shapes and places of a model's parameters. Throws ERR_MODEL_SPEC. */
  parameters(model: ModelSpec): ModelLayout;
  /** Builds the graph of a model of any size and plans its memory, without allocating it. */
  planFigures(spec: EngineSpec): PlanFigures;
  /**
   * The operations of a slot's forward and backward pass in the order of the graph, without allocating or
   * running anything; always of the CPU's graph, whatever `device` is.
   */
  planOperations(spec: EngineSpec): PlannedOperation[];
  /**
   * Maps the files read-only and checks every segment against the files' sizes. Rejects with ERR_FILE_... or
   * ERR_DATA_SPEC.
   */
  mapDataset(spec: DatasetSpec): Promise<Dataset>;
  addInto: AddInto;
  /** Fletcher's checksum of a message, in 64 bits: other bytes have the same one with a probability of about 2^-64. */
  checksum(bytes: Uint8Array): bigint;
  /**
   * Asks the system to drop the flushed pages of a file from memory, so that what is read next comes from the
   * disk. File systems that live in memory keep them. Rejects with ERR_FILE_OPEN.
   */
  dropCachedPages(path: string): Promise<void>;
  /**
   * FLOP/s of an m x n x k matmul on each of `threads` threads at once, for the peak in the benches and in
   * doctor.
   */
  matmulPeak(
    precision: 'fp32' | 'bf16',
    m: number,
    n: number,
    k: number,
    threads: number,
    seconds: number,
  ): Promise<number>;
  /**
   * The process at the other end of a Unix socket, by its descriptor, as the kernel saw it when it connected or
   * began to listen. The pid is 0 if this process cannot see that one, in another PID namespace. Throws ERR_TOKEN.
   */
  socketPeer(descriptor: number): { pid: number; user: number };
  /**
   * Takes the kernel's lock of a file, by its descriptor, which must be open for writing; false: another process
   * holds it, or this one by another descriptor. It ends when the file is closed. Throws ERR_SYSTEM where the
   * file system has no locks.
   */
  lockFile(descriptor: number): boolean;
  /** Whether somebody holds it. */
  isLocked(descriptor: number): boolean;
  /**
   * What the engine's driver is at, and how many pieces of work its threads and its GPU have done. While it waits for
   * other workers, the ticks may stand.
   */
  progress(): { stage: 'idle' | 'compute' | 'exchange' | 'update' | 'wait'; ticks: number };
  /**
   * Starts the watchdog, once in a process. It says why on standard error, and ends the process with the exit
   * code, if ticks stand while the engine is at something, or no beat() comes, for longer than `leastMs`, and
   * than `times` the longest that they stood before. Time in which the process was stopped does not count.
   */
  startWatchdog(options: { leastMs: number; times: number; exitCode: number }): void;
  /** The event loop gets on. */
  beat(): void;
  /**
   * Ends the process at once, while engines compute: without the destructors of process.exit(), which wait for
   * the engines' threads or run beside them.
   */
  exitProcess(code: number): never;
}
