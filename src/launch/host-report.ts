/** What a host tells of itself before workers are started there. */
import { z } from 'zod';
import { parseConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
import { openDataset } from '../data/dataset.js';
import { checkAddon } from '../doctor/addon.js';
import { checkDisk } from '../doctor/machine.js';
import { faultOf } from '../fault.js';
import { machineMemory } from '../memory/machine.js';
import { findGpus } from '../native/cuda.js';
import { possibleIsas } from '../native/isa.js';
import { native } from '../native/load.js';
import { PROTOCOL } from '../rpc/proto.js';
import { version } from '../version.js';

/** Less free space than this is a full disk: a worker without the run folder writes no more than a cache. */
const FULL_BYTES = 16 * 2 ** 20;

export const hostRequestSchema = z.object({
  /** The configuration of the run, as JSON. */
  config: z.string(),
  /** Where this host has the data set; null: where the configuration says. */
  data: z.string().nullable(),
  /** The version of the run's sample plan, which says how data sets are identified; null: nobody knows the data. */
  plan: z.number().nullable(),
  /** How many workers are to be started. */
  workers: z.number(),
});
export type HostRequest = z.infer<typeof hostRequestSchema>;

export const hostReportSchema = z.object({
  version: z.string(),
  protocol: z.number(),
  /** Its clock. */
  unixMs: z.number(),
  /** What the bits of its sums depend on; of what is unknown ''. */
  arithmetic: z.object({
    isa: z.string(),
    /** The instruction sets with which it may compute, the best first. */
    isas: z.array(z.string()),
    kernels: z.string(),
    gpus: z.string(),
  }),
  /** The identity of its data set; '': it was not asked for, or cannot be read. */
  dataset: z.string(),
  memoryBytes: z.number(),
  /** Why no worker can run there. */
  problems: z.array(z.string()),
});
export type HostReport = z.infer<typeof hostReportSchema>;

/** The report on this host. Whatever is wrong with it is in `problems`. */
export async function hostReport({ config: text, data, plan, workers }: HostRequest): Promise<HostReport> {
  const problems: string[] = [];
  const attempt = async <T>(what: () => T | Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await what();
    } catch (error) {
      problems.push(faultOf(error).message);
      return otherwise;
    }
  };
  const config = await attempt(() => parseConfig(text, 'the configuration of the run'), null);
  const disk = checkDisk(process.cwd(), FULL_BYTES);
  if (disk.status !== 'ok') problems.push(`its disk: ${disk.detail}`);
  const unknown = { isa: '', isas: [], kernels: '', gpus: '' };
  const arithmetic = await attempt(() => arithmeticOf(config, workers), unknown);
  const dataset =
    config === null || plan === null
      ? ''
      : await attempt(async () => {
          const path = data ?? config.data.path;
          return (await openDataset({ ...config.data, path }, { planVersion: plan })).hash;
        }, '');
  return {
    version: version(),
    protocol: PROTOCOL,
    unixMs: Date.now(),
    arithmetic,
    dataset,
    memoryBytes: machineMemory().bytes,
    problems,
  };
}

async function arithmeticOf(config: Config | null, workers: number): Promise<HostReport['arithmetic']> {
  const broken = checkAddon().find(({ status }) => status === 'failed');
  if (broken !== undefined) throw new Error(`its ${broken.name} ${broken.detail}: ${broken.fix}`);
  const { isa, kernels } = native().host();
  const isas = possibleIsas(native());
  if (config?.device !== 'cuda') return { isa, isas, kernels, gpus: '' };
  const gpus = await findGpus(native(), workers);
  return {
    ...{ isa, isas, kernels },
    gpus: [...new Set(gpus.map(({ name, libraries }) => `${name}, ${libraries}`))].join('; '),
  };
}
