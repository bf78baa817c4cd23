/**
 * The manifest.json of a checkpoint: what it is a checkpoint of, and the size and SHA-256 of each file. The
 * text is canonical and contains its own checksum, so that any changed byte of the folder is detected.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import { OrchestratorError } from '../errors.js';
import { readWhole } from '../files/io.js';
import { isMapping } from '../files/json.js';
import { type ModelSpec, modelSpecSchema, textSpecSchema } from '../native/specs.js';

export const MANIFEST = 'manifest.json';
export const MODEL_FILE = 'model.safetensors';
export const EMA_FILE = 'ema.safetensors';
export const OPTIMIZER_FILE = 'optimizer.safetensors';

const FORMAT = 'orchestrator-checkpoint';
/** Version 2 adds the model's backbone. */
const FORMAT_VERSION = 2;
const READABLE_VERSIONS: readonly unknown[] = [1, FORMAT_VERSION];
/** Largest manifest that is read; it holds a config and a handful of hashes. */
const MAX_BYTES = 16 << 20;

const count = () => z.int().min(0);
const positive = () => z.int().min(1);
const name = () => z.union([z.string(), z.number()]);
const sha256 = () => z.string().regex(/^[0-9a-f]{64}$/);

export type CheckpointFile = typeof MODEL_FILE | typeof EMA_FILE | typeof OPTIMIZER_FILE;

const manifestSchema = z.strictObject({
  format: z.literal(FORMAT),
  formatVersion: z.int(),
  /** Completed training steps. */
  step: count(),
  model: modelSpecSchema,
  /** Number of trained parameters. */
  parameters: count(),
  /** [channels, height, width] of the latents that the run trains on. */
  latent: z.tuple([positive(), positive(), positive()]),
  text: textSpecSchema,
  datasetHash: z.string(),
  /** Names of the encoders that computed the text features; null if the data set does not name them. */
  encoders: z
    .strictObject({ clip_l: z.string(), clip_g: z.string(), t5: z.string() })
    .nullable()
    .default(null),
  /** State of the sample plan: a few numbers, the names of what they belong to, and its segments. */
  plan: z.record(z.string(), z.union([name(), z.array(z.record(z.string(), name()))])),
  /** Whose moments the optimizer's file holds. Files written before there were names hold AdamW's. */
  optimizer: z.string().default('adamw'),
  /** The effective config. */
  config: z.unknown(),
  /** Versions of what wrote the checkpoint, by name: programs, instruction set, precision. */
  versions: z.record(z.string(), z.string()),
  files: z.partialRecord(
    z.enum([MODEL_FILE, EMA_FILE, OPTIMIZER_FILE]),
    z.strictObject({ bytes: count(), sha256: sha256() }),
  ),
  checksum: sha256(),
});

type ManifestFile = z.output<typeof manifestSchema>;

/** The caller's part of the manifest. */
export interface CheckpointMetadata
  extends Pick<
    ManifestFile,
    'step' | 'latent' | 'text' | 'datasetHash' | 'encoders' | 'optimizer' | 'versions' | 'config'
  > {
  planState: Readonly<Record<string, unknown>>;
  modelSpec: ModelSpec;
}

export interface CheckpointManifest extends CheckpointMetadata, Pick<ManifestFile, 'parameters' | 'files'> {}

const metadataSchema = manifestSchema.pick({
  ...{ step: true, model: true, latent: true, text: true, datasetHash: true, encoders: true },
  ...{ plan: true, optimizer: true, config: true, versions: true },
});

/** The caller's part of the manifest as a message. */
export function encodeMetadata({ planState: plan, modelSpec: model, ...rest }: CheckpointMetadata): Buffer {
  return Buffer.from(JSON.stringify({ ...rest, plan, model }));
}

/** @throws OrchestratorError ERR_PROTOCOL for a message that is none. */
export function decodeMetadata(bytes: Uint8Array): CheckpointMetadata {
  try {
    const { plan, model, ...rest } = metadataSchema.parse(JSON.parse(Buffer.from(bytes).toString()));
    return { ...rest, planState: plan, modelSpec: model };
  } catch (cause) {
    const message = `A worker has sent what is no description of a state: ${(cause as Error).message}`;
    throw new OrchestratorError('ERR_PROTOCOL', message, { cause });
  }
}

function checksummed(body: Record<string, unknown>): string {
  const checksum = createHash('sha256').update(JSON.stringify(body)).digest('hex');
  return `${JSON.stringify({ ...body, checksum }, null, 2)}\n`;
}

export function encodeManifest(manifest: CheckpointManifest): string {
  return checksummed({
    format: FORMAT,
    formatVersion: FORMAT_VERSION,
    step: manifest.step,
    model: manifest.modelSpec,
    parameters: manifest.parameters,
    latent: manifest.latent,
    text: manifest.text,
    datasetHash: manifest.datasetHash,
    encoders: manifest.encoders,
    plan: manifest.planState,
    optimizer: manifest.optimizer,
    config: manifest.config,
    versions: manifest.versions,
    files: manifest.files,
  });
}

/** The error for a checkpoint that is incomplete or changed. */
export function damaged(path: string, what: string, cause?: unknown): OrchestratorError {
  const hint =
    'Take another checkpoint: `orchestrator checkpoint verify RUN` shows which of a run are valid, and `--resume auto` takes the latest of them';
  return new OrchestratorError('ERR_CHECKPOINT_DAMAGED', `${path}: ${what}`, { hint, cause });
}

/**
 * Parses and checks the text of a manifest.
 *
 * @param path for messages.
 */
export function decodeManifest(text: string, path: string): CheckpointManifest {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw damaged(path, 'is not JSON');
  }
  if (!isMapping(json)) throw damaged(path, 'is not an object');
  const { checksum, ...body } = json;
  if (checksum === undefined && body.format !== FORMAT) {
    throw new OrchestratorError('ERR_CHECKPOINT_MISSING', `${path} is not the manifest of a checkpoint`);
  }
  if (checksummed(body) !== text) {
    throw damaged(path, `the contents do not match the checksum ${JSON.stringify(checksum)?.slice(0, 80)}`);
  }
  if (body.format !== FORMAT || !READABLE_VERSIONS.includes(body.formatVersion)) {
    throw new OrchestratorError(
      'ERR_CHECKPOINT_MISMATCH',
      `${path} has format ${JSON.stringify(body.format)} version ${JSON.stringify(body.formatVersion)}; this program reads ${FORMAT} versions ${READABLE_VERSIONS.join(' and ')}`,
    );
  }
  const parsed = manifestSchema.safeParse(json);
  if (!parsed.success) throw damaged(path, z.prettifyError(parsed.error));
  const { format, formatVersion, checksum: _, plan, config, model, ...rest } = parsed.data;
  if (rest.files[MODEL_FILE] === undefined) throw damaged(path, `no ${MODEL_FILE} among its files`);
  return { ...rest, planState: plan, modelSpec: model, config };
}

/** Reads and checks the manifest of a checkpoint folder, without its other files. */
export async function readManifest(folder: string): Promise<CheckpointManifest> {
  const path = join(folder, MANIFEST);
  const tooLarge = (bytes: number) => damaged(path, `${bytes} bytes are too many for a manifest`);
  const bytes = await readWhole(path, MAX_BYTES, tooLarge);
  return decodeManifest(new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes), path);
}
