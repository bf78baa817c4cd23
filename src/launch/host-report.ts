/** What a host tells of itself before workers are started there. */
import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { parseConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
import { openCopy } from '../data/dataset.js';
import { checkAddon } from '../doctor/addon.js';
import { checkDisk } from '../doctor/machine.js';
import { resolvePrecision } from '../engine/precision.js';
import { inferenceSpec } from '../engine/spec.js';
import { OrchestratorError } from '../errors.js';
import { faultOf } from '../fault.js';
import { hashFile } from '../files/hash.js';
import { freeBytes } from '../files/io.js';
import { machineMemory } from '../memory/machine.js';
import type { EngineSpec } from '../native/contract.js';
import { findGpus } from '../native/cuda.js';
import { hostOf } from '../native/host.js';
import { possibleIsas } from '../native/isa.js';
import { addonPath, isNativeLoaded, native } from '../native/load.js';
import { PROTOCOL } from '../rpc/protocol.js';
import { bytes } from '../text/quantities.js';
import { said } from '../text/said.js';
import { build, version } from '../version.js';
import { probeArithmetic } from '../worker/probe.js';

/** Less free space than this is a full disk: a worker without the run folder writes no more than a cache. */
const FULL_BYTES = 16 * 2 ** 20;

const DISK = `A worker needs ${bytes(FULL_BYTES)} there, and the right to write: free some space, or say which other folder has this program, with dir=FOLDER in a hostfile`;
const DATA = 'data=FOLDER in a hostfile';

export const hostRequestSchema = z.object({
  /** The configuration of the run, as JSON; null: it is not about a run. */
  config: z.string().nullable(),
  /** Where this host has the data set; null: where the configuration says. */
  data: z.string().nullable(),
  /** The version of the run's sample plan, which says how data sets are identified; null: nobody knows the data. */
  plan: z.number().nullable(),
  /** How many workers are to be started. */
  workers: z.number(),
  /** Whether to compute the probe of the arithmetic, which takes a second. */
  probe: z.boolean().default(false),
});
export type HostRequest = z.infer<typeof hostRequestSchema>;

/** What hosts with any version of this program say. */
export const hostVersionSchema = z.object({
  version: said,
  protocol: z.number(),
  build: said.default('unknown'),
});
export type HostVersion = z.infer<typeof hostVersionSchema>;

export const hostReportSchema = hostVersionSchema.extend({
  /** Its clock. */
  unixMs: z.number(),
  /** What the bits of its sums depend on; of what is unknown ''. */
  arithmetic: z.object({
    isa: said,
    /** The instruction sets with which it may compute, the best first. */
    isas: z.array(said),
    kernels: said,
    /** The precision in which the CPU computes: the one of the configuration, or what `auto` means here. */
    precision: said,
    gpus: said,
    /** The same for all processors that compute alike with this instruction set; '': it was not asked for. */
    probe: said,
  }),
  /** SHA-256 of its native addon, shortened; '': it has none. */
  addon: said,
  /** Version of Node.js. */
  node: said,
  processors: z.number(),
  /** Free bytes of the disk on which its folder is; null: unknown. */
  diskFreeBytes: z.number().nullable(),
  /** The identity of its data set; '': it was not asked for, or cannot be read. */
  dataset: said,
  memoryBytes: z.number(),
  /** Why no worker can run there, and what to do about it. */
  problems: z.array(z.object({ message: said, hint: said.nullable() })),
});
export type HostReport = z.infer<typeof hostReportSchema>;

/** The report on this host. Whatever is wrong with it is in `problems`. */
export async function hostReport(request: z.input<typeof hostRequestSchema>): Promise<HostReport> {
  const { config: text, data, plan, workers, probe = false } = request;
  const problems: HostReport['problems'] = [];
  const attempt = async <T>(what: () => T | Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await what();
    } catch (error) {
      const { message, hint } = faultOf(error);
      problems.push({ message, hint });
      return otherwise;
    }
  };
  const parsed = () => (text === null ? null : parseConfig(text, 'the configuration of the run'));
  const config = await attempt(parsed, null);
  const disk = checkDisk(process.cwd(), FULL_BYTES);
  if (disk.status !== 'ok') problems.push({ message: `its disk: ${disk.detail}`, hint: DISK });
  const unknown = { isa: '', isas: [], kernels: '', precision: '', gpus: '', probe: '' };
  const arithmetic = await attempt(() => arithmeticOf(config, workers, probe), unknown);
  const dataset =
    config === null || plan === null
      ? ''
      : await attempt(async () => {
          const path = data ?? config.data.path;
          return (await openCopy({ ...config.data, path }, { planVersion: plan }, DATA)).hash;
        }, '');
  return {
    version: version(),
    protocol: PROTOCOL,
    build: build(),
    unixMs: Date.now(),
    arithmetic,
    addon: await addonHash(),
    node: process.versions.node,
    processors: availableParallelism(),
    diskFreeBytes: await freeBytes(process.cwd()).catch(() => null),
    dataset,
    memoryBytes: machineMemory().bytes,
    problems,
  };
}

async function addonHash(): Promise<string> {
  const record = await hashFile(addonPath()).catch(() => null);
  return record?.sha256.slice(0, 12) ?? '';
}

async function arithmeticOf(
  config: Config | null,
  workers: number,
  probes: boolean,
): Promise<HostReport['arithmetic']> {
  const broken = isNativeLoaded() ? undefined : checkAddon().find(({ status }) => status === 'failed');
  if (broken !== undefined) {
    const message = `its ${broken.name}: ${broken.detail}`;
    throw new OrchestratorError('ERR_NATIVE_MISSING', message, `Run there: ${broken.fix}`);
  }
  const { isa, kernels } = native().host();
  const isas = possibleIsas(native());
  const wanted = config?.precision ?? { compute: 'auto', linear: 'compute' };
  const { compute } = resolvePrecision(wanted, hostOf(native()));
  const onGpus = config?.device === 'cuda' && workers > 0;
  const gpus = onGpus ? await findGpus(native(), workers) : [];
  return {
    ...{ isa, isas, kernels, precision: compute },
    gpus: [...new Set(gpus.map(({ name, libraries }) => `${name}, ${libraries}`))].join('; '),
    probe: probes ? await probeArithmetic(probeSpec(compute)) : '',
  };
}

/** A model with QK-norm and a second attention, as the paper's larger ones have them. */
function probeSpec(precision: EngineSpec['precision']): EngineSpec {
  const sizes = { depth: 1, heads: 1, latentChannels: 4, contextDim: 32, pooledDim: 32, posEmbedMaxSize: 16 };
  const model = { backbone: 'mmdit', patch: 2, qkNorm: 'rms' as const, dualAttention: [0], ...sizes };
  const shape = { model, latentHeight: 16, latentWidth: 16, contextTokens: 8, microBatch: 1 };
  return inferenceSpec(shape, { precision, residual: precision, training: true });
}
