/** `orchestrator checkpoint`: what a checkpoint contains, and whether it is complete. */
import { existsSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { type CheckpointManifest, EMA_FILE, MANIFEST, readManifest } from '../../checkpoint/manifest.js';
import { noCheckpoint } from '../../checkpoint/missing.js';
import { CHECKPOINTS, resolveCheckpoint, underRuns } from '../../checkpoint/resume.js';
import { listCheckpoints } from '../../checkpoint/retention.js';
import { verifyCheckpoint } from '../../checkpoint/store.js';
import { modelKeys } from '../../config/model.js';
import { storedWeights } from '../../engine/stored-weights.js';
import { EXIT, OrchestratorError } from '../../errors.js';
import type { FileRecord } from '../../files/hash.js';
import { Safetensors } from '../../formats/safetensors/file.js';
import { describeModel } from '../../model/tensors.js';
import { recordedAt } from '../../run-folder/recorded-run.js';
import { planStateOf } from '../../step/plan.js';
import { timeOfDay } from '../../telemetry/console.js';
import { nextLine } from '../../telemetry/lines.js';
import { alignedRows, namedRows } from '../../text/columns.js';
import { bytes, quantity, stepsText } from '../../text/quantities.js';
import { printResult } from '../output.js';
import { type TensorList, tensorLines, tensorsOf } from '../tensor-table.js';

export function register(program: Command): void {
  const checkpoint = program.command('checkpoint').description('inspect and verify checkpoints');
  checkpoint
    .command('inspect')
    .description('print the step, date, loss, size, model, files and hashes of a checkpoint')
    .argument('<path>', "a checkpoint's folder, or a run's folder or name for its latest valid one")
    .option('--tensors', 'also print the type and shape of every tensor')
    .option('--json', 'print JSON, with every tensor')
    .action(async (path: string, { tensors, json }: { tensors?: true; json?: true }) => {
      const { spec, ...described } = await describe(path);
      printResult(described, json, (found) => render({ ...found, spec }, tensors === true));
    });
  checkpoint
    .command('verify')
    .description('hash every file of a checkpoint, or of all checkpoints of a run')
    .argument('<path>', "a checkpoint's folder, or a run's folder or name")
    .option('--json', 'print JSON')
    .action(async (path: string, { json }: { json?: true }) => {
      const results = await verifyAll(path, json ? null : process.stdout);
      printResult(results, json, () => '');
      if (results.some(({ ok }) => !ok)) process.exitCode = EXIT.failed;
    });
}

async function describe(given: string) {
  const path = underRuns(given);
  const folder = (await isCheckpoint(path)) ? path : (await resolveCheckpoint(path)).path;
  const manifest = await readManifest(folder);
  const tensors: Record<string, TensorList> = {};
  for (const name of Object.keys(manifest.files)) {
    const file = await Safetensors.open(join(folder, name));
    tensors[name] = tensorsOf(file);
    await file.close();
  }
  const { mtimeMs } = statSync(join(folder, MANIFEST));
  const size = Object.values(manifest.files).reduce((sum, file) => sum + file.bytes, 0);
  // A checkpoint that was copied elsewhere has no records beside it.
  const recorded = recordedAt(dirname(dirname(resolve(folder))), manifest.step);
  const written = { written_unix_seconds: mtimeMs / 1000, bytes: size, ...recorded };
  return {
    path: folder,
    ...written,
    manifest: { ...manifest, modelSpec: modelKeys(manifest.modelSpec) },
    tensors,
    /** The model as the rest of the program has it; the manifest above has it as a configuration does. */
    spec: manifest.modelSpec,
  };
}

/** Whether a folder has a manifest, even a damaged one. */
async function isCheckpoint(path: string): Promise<boolean> {
  return readManifest(path).then(
    () => true,
    (error) => !(error instanceof OrchestratorError && error.code === 'ERR_FILE_OPEN'),
  );
}

function pairs(record: Readonly<Record<string, string | number>>): string {
  return Object.entries(record)
    .map(([key, value]) => `${key} ${value}`)
    .join(', ');
}

/** The state of the sample plan, under the names of the configuration; the data set has a row of its own. */
function describePlan({ datasetHash: _, segments: __, ...plan }: CheckpointManifest['planState']): string {
  const names: Record<string, string> = { validationRows: 'data.validation_rows', samples: 'samples drawn' };
  return pairs(
    Object.fromEntries(Object.entries(plan).map(([key, value]) => [names[key] ?? key, String(value)])),
  );
}

/** The states of a data set that was changed during the run, with the steps that used them. */
function describeSegments(
  path: string,
  planState: CheckpointManifest['planState'],
  step: number,
): Record<string, string> {
  const { segments = [] } = planState.segments === undefined ? {} : planStateOf(path, planState);
  const lines = segments.map(({ firstStep, rows, datasetHash }, i): [string, string] => {
    const end = (segments[i + 1]?.firstStep ?? step + 1) - 1;
    return [`segment ${i + 1}`, `${stepsText(firstStep, end)}, ${rows} rows, data set ${datasetHash}`];
  });
  return Object.fromEntries(lines);
}

function describeText(text: CheckpointManifest['text']): string {
  const encoder = (name: string, tokens: number, width: number, pooled?: number) =>
    `${name} ${tokens} x ${width}${pooled === undefined ? '' : ` (pooled ${pooled})`}`;
  return [
    encoder('clip_l', text.clipTokens, text.clipLDim, text.clipLPooledDim),
    encoder('clip_g', text.clipTokens, text.clipGDim, text.clipGPooledDim),
    encoder('t5', text.t5Tokens, text.t5Dim),
  ].join(', ');
}

function describeAverage(manifest: CheckpointManifest): string {
  return manifest.files[EMA_FILE] === undefined ? 'none' : storedWeights(manifest, 'ema').text;
}

type Description = Awaited<ReturnType<typeof describe>>;

function render(described: Description, withTensors: boolean): string {
  const { path, manifest, spec, loss, validation, tensors } = described;
  const facts = {
    checkpoint: path,
    step: String(manifest.step),
    written: `${timeOfDay(new Date(1000 * described.written_unix_seconds))}, ${bytes(described.bytes)}`,
    ...(loss === null ? {} : { loss: quantity(loss) }),
    ...(validation === null ? {} : { validation: `${quantity(validation.mean)} (${validation.weights})` }),
    plan: describePlan(manifest.planState),
    ...describeSegments(path, manifest.planState, manifest.step),
    EMA: describeAverage({ ...manifest, modelSpec: spec }),
    'data set': manifest.datasetHash,
    model: describeModel(spec),
    parameters: manifest.parameters.toLocaleString('en-US'),
    latent: manifest.latent.join(' x '),
    text: describeText(manifest.text),
    encoders: manifest.encoders === null ? 'not named' : pairs(manifest.encoders),
    versions: pairs(manifest.versions),
  };
  const files = Object.entries(manifest.files);
  const rows = files.map(([name, file]) => [
    name,
    bytes(file.bytes),
    `${tensors[name]?.length} tensors`,
    `sha256 ${file.sha256}`,
  ]);
  const lines = alignedRows(rows, 'left').flatMap((line, i) =>
    withTensors ? [line, ...tensorLines(tensors[files[i]![0]]!)] : [line],
  );
  return `${[...namedRows(facts), '', ...lines, '', nextLine(path)].join('\n')}\n`;
}

async function verifyOne(path: string, out: NodeJS.WritableStream | null) {
  const files: Record<string, FileRecord> = {};
  try {
    const { step } = await verifyCheckpoint(path, (name, record) => {
      files[name] = record;
      out?.write(`ok  ${join(path, name)}  ${bytes(record.bytes)}  sha256 ${record.sha256}\n`);
    });
    out?.write(`ok  ${path}  step ${step}\n`);
    return { path, ok: true, step, files, error: null };
  } catch (error) {
    if (!(error instanceof OrchestratorError)) throw error;
    const { code, message } = error;
    out?.write(`bad ${path}  ${code}: ${message}\n`);
    return { path, ok: false, step: null, files, error: { code, message } };
  }
}

async function verifyAll(given: string, out: NodeJS.WritableStream | null) {
  const path = underRuns(given);
  if (await isCheckpoint(path)) return [await verifyOne(path, out)];
  if (existsSync(path) && statSync(path).isFile()) throw noCheckpoint(path);
  const inRun = await listCheckpoints(join(path, CHECKPOINTS));
  const found = inRun.length > 0 ? inRun : await listCheckpoints(path);
  if (found.length === 0) throw noCheckpoint(path);
  const results: Awaited<ReturnType<typeof verifyOne>>[] = [];
  for (const checkpoint of found) results.push(await verifyOne(checkpoint.path, out));
  return results;
}
