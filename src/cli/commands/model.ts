/** `orchestrator model`: inspects and converts files of weights, and evaluates a model on a given case. */
import { type Command, Option } from 'commander';
import { EMA_FILE } from '../../checkpoint/manifest.js';
import { modelKeys } from '../../config/model.js';
import { readCase, resultTensors } from '../../engine/case.js';
import { objectiveIn } from '../../engine/draw.js';
import { locateWeights, type WeightsSource } from '../../engine/inference.js';
import { loadWeights } from '../../engine/load.js';
import { requireMemory } from '../../engine/memory.js';
import { inferenceSpec } from '../../engine/spec.js';
import { notesOn, UNTRAINED } from '../../engine/stored-weights.js';
import { OrchestratorError } from '../../errors.js';
import { replaceFile } from '../../files/io.js';
import type { OutputDtype } from '../../formats/safetensors/dtype.js';
import { writeSafetensors } from '../../formats/safetensors/write.js';
import type { Format } from '../../model/backbones.js';
import { releasedName } from '../../model/released.js';
import { statedTraining, type Training, writeScheduler } from '../../model/scheduler.js';
import { describeModel } from '../../model/tensors.js';
import { type TransferOptions, writeWeights } from '../../model/transfer.js';
import { type Weights, withWeights } from '../../model/weights.js';
import type { ModelSpec, WeightsName } from '../../native/contract.js';
import { hostOf } from '../../native/host.js';
import { native } from '../../native/load.js';
import { namedRows } from '../../text/columns.js';
import { bytes, counted } from '../../text/quantities.js';
import { shardSize } from '../arguments.js';
import { choiceOption, WEIGHTS_ALONE } from '../options.js';
import { printNote, printPage, printResult } from '../output.js';
import { tensorLines, tensorsOf } from '../tensor-table.js';

interface EvalOptions {
  weights: string;
  case: string;
  out: string;
  grads?: true;
  precision: 'fp32' | 'bf16';
  json?: true;
}

export function register(program: Command): void {
  const model = program
    .command('model')
    .description('inspect and convert weights, and run a model on a given case');
  model
    .command('eval')
    .description('compute velocity, loss and gradients of a model for explicit inputs')
    .requiredOption('--weights <file>', PLACES)
    .requiredOption('--case <file>', 'safetensors file with x0, eps, context, pooled, t, and optionally z_t')
    .requiredOption('--out <file>', 'safetensors file to write: velocity, loss, and gradients by name')
    .option('--grads', 'also compute the gradients of mean((velocity - (eps - x0))^2)')
    .addOption(choiceOption('--precision <precision>', 'arithmetic', ['fp32', 'bf16']))
    .option('--json', 'print JSON')
    .action(evaluate);
  model
    .command('inspect')
    .description('print the model in a file of weights, as a configuration has it')
    .argument('<path>', PLACES)
    .option('--tensors', 'also print the type and shape of every tensor')
    .option('--json', 'print JSON, with every tensor')
    .action(inspect);
  model
    .command('import')
    .description('convert weights of other programs to one file with the official names, for `init`')
    .argument(
      '<path>',
      "safetensors file (other tensors in it are skipped), *.safetensors.index.json, or diffusers' folder",
    )
    .requiredOption('--out <file>', 'file to write')
    .addOption(
      choiceOption('--format <format>', 'names that the weights must have', [
        'auto',
        'official',
        'diffusers',
      ]),
    )
    .addOption(dtypeOption())
    .action(importWeights);
  model
    .command('export')
    .description("convert weights for other programs: one file with the official names, or diffusers' folder")
    .argument('<path>', PLACES)
    .requiredOption('--out <path>', 'file (official) or new folder (diffusers) to write')
    .addOption(choiceOption('--format <format>', 'layout to write', ['official', 'diffusers']))
    .addOption(
      new Option(
        '--weights <kind>',
        'which weights of a checkpoint (default: ema, or master where the run kept no EMA)',
      ).choices(['ema', 'master']),
    )
    .addOption(dtypeOption())
    .addOption(
      new Option('--shard-size <size>', "maximum size of a file in diffusers' folder; 0 = one file")
        .argParser(shardSize)
        .default(10e9, '10GB'),
    )
    .action(exportWeights);
}

const PLACES = `a checkpoint's folder, a run's folder or name, ${WEIGHTS_ALONE}`;

function dtypeOption(): Option {
  const types = ['same', 'F32', 'F16', 'BF16'];
  return choiceOption('--dtype <type>', 'element type to write; same = unchanged, bit for bit', types);
}

async function evaluate(options: EvalOptions): Promise<void> {
  const { precision } = options;
  const source = await locateWeights(options.weights, null);
  await withWeights(source.path, async (weights) => {
    const { spec } = weights;
    const input = await readCase(options.case, spec);
    const training = options.grads === true;
    const { latentHeight, latentWidth, contextTokens, samples: microBatch } = input;
    const threads = hostOf(native()).processors;
    const engineSpec = inferenceSpec(
      { model: spec, latentHeight, latentWidth, contextTokens, microBatch },
      { precision, threads, threadsPerSlot: threads, training },
    );
    requireMemory(native(), engineSpec);
    const engine = await native().createEngine(engineSpec);
    try {
      await loadWeights(engine, weights);
      for (const note of [...notesOn(source.stored), ...source.notes, ...weights.notes])
        printNote(`note: ${note}`);
      if (source.stored?.untrained) printNote(`warn ${UNTRAINED}`);
      const result = await engine.evaluateCase(input.batch, input.target, training);
      const tensors = resultTensors(engine.layout(), input, result);
      await replaceFile(options.out, (path) => writeSafetensors(path, tensors, { precision }));
      const facts = {
        model: describeModel(spec),
        case: `${counted(input.samples, 'sample')} of ${latentHeight} x ${latentWidth}, ${counted(contextTokens, 'token')}`,
        loss: String(result.loss),
        wrote: `${counted(tensors.length, 'tensor')} to ${options.out} (${precision})`,
      };
      const { out, json } = options;
      const data = { loss: result.loss, samples: input.samples, out, tensors: tensors.length, precision };
      printResult(data, json, () => `${namedRows(facts).join('\n')}\n`);
    } finally {
      await engine.close();
    }
  });
}

async function inspect(
  path: string,
  { json, tensors: withTensors }: { json?: true; tensors?: true },
): Promise<void> {
  const source = await locateWeights(path, 'master');
  await withWeights(source.path, async (weights) => {
    const { spec, notes, tensors } = weights;
    const { files, bytes: size } = weights.files;
    const description = {
      path: source.path,
      model: modelKeys(spec),
      released: releasedName(spec),
      format: tensors.format,
      parameters: native().parameters(spec).parameters,
      files,
      bytes: size,
      skipped: tensors.skipped,
      note: notes[0] ?? null,
      tensors: tensorsOf(weights.files),
    };
    printResult(description, json, ({ released, format, parameters, tensors: found }) => {
      const facts = {
        ...(source.stored === null ? {} : { weights: `${source.stored.text}${alsoAverage(source)}` }),
        model: `${describeModel(spec)}${released === null ? '' : ` (${released})`}`,
        parameters: parameters.toLocaleString('en-US'),
        names: `${format}, ${tensors.names.size} tensors: ${typesOf(weights)}`,
        files: `${files.length}, ${bytes(size)}`,
      };
      const listed = withTensors ? ['tensors:', ...tensorLines(found)] : [];
      const lines = [...namedRows(facts), ...notes, ...modelLines(spec), ...listed];
      return `${lines.join('\n')}\n`;
    });
  });
}

/** The model as a configuration has it. */
function modelLines(spec: ModelSpec): string[] {
  const keys = Object.entries(modelKeys(spec)).map(([key, value]) => {
    const text = Array.isArray(value) ? `[${value.join(', ')}]` : value;
    return `  ${key}: ${text}`;
  });
  return ['model:', ...keys];
}

/** A note for checkpoints with an average: the export takes that one. */
function alsoAverage({ manifest }: WeightsSource): string {
  return manifest?.files[EMA_FILE] === undefined
    ? ''
    : '; the checkpoint also holds the EMA, which `model export` takes by default';
}

/** The types of the model's tensors: "488 F16, 3 F32". */
function typesOf(weights: Weights): string {
  const counts = new Map<string, number>();
  for (const name of weights.tensors.names.values()) {
    const { dtype } = weights.files.tensors.get(name)!;
    counts.set(dtype, (counts.get(dtype) ?? 0) + 1);
  }
  return [...counts].map(([dtype, count]) => `${count} ${dtype}`).join(', ');
}

interface TransferFlags {
  out: string;
  format: Format | 'auto';
  dtype: OutputDtype | 'same';
}

interface ExportFlags extends TransferFlags {
  format: Format;
  weights?: WeightsName;
  shardSize: number | null;
}

/** The sample_size in config.json of SD3 and SD3.5: 128 latents, 1024 pixels. */
const RELEASED_SAMPLE_SIZE = 128;

async function importWeights(path: string, { out, format, dtype }: TransferFlags): Promise<void> {
  await transfer(await locateWeights(path, null), out, format, {
    format: 'official',
    dtype: dtype === 'same' ? null : dtype,
    shardBytes: null,
    sampleSize: RELEASED_SAMPLE_SIZE,
  });
}

async function exportWeights(path: string, flags: ExportFlags): Promise<void> {
  const source = await locateWeights(path, flags.weights ?? null);
  await transfer(source, flags.out, 'auto', {
    format: flags.format,
    dtype: flags.dtype === 'same' ? null : flags.dtype,
    shardBytes: flags.shardSize,
    sampleSize: source.manifest?.latent[1] ?? RELEASED_SAMPLE_SIZE,
  });
}

async function transfer(
  { path, notes, stored, byDefault, manifest }: WeightsSource,
  out: string,
  expected: Format | 'auto',
  options: Omit<TransferOptions, 'training'>,
): Promise<void> {
  if (byDefault && stored?.untrained) {
    throw new OrchestratorError(
      'ERR_EMA_UNTRAINED',
      `${path}: ${stored.text}`,
      '`model export --weights master` writes the trained weights, `--weights ema` the average as it is',
    );
  }
  await withWeights(path, async (weights) => {
    const { spec, tensors } = weights;
    if (expected !== 'auto' && expected !== tensors.format) {
      throw new OrchestratorError(
        'ERR_MODEL_TENSORS',
        `${weights.files.path}: expected ${expected} names, found ${tensors.format} names`,
      );
    }
    if (stored?.untrained) printNote(`warn ${UNTRAINED}`);
    for (const note of [...notes, ...weights.notes]) printNote(`note: ${note}`);
    if (options.format === 'official' && !out.endsWith('.safetensors')) {
      printNote(`warn ${out} does not end in .safetensors, by which programs recognise the format`);
    }
    const training = manifest === null ? await statedTraining(weights, path) : objectiveIn(manifest);
    const written = await writeWeights(weights, out, { ...options, training });
    const size = `${written.tensors} tensors, ${bytes(written.bytes)} in ${counted(written.sha256.size, 'file')}`;
    const lines = namedRows({
      read: `${weights.files.path} (${tensors.format} names)`,
      ...(stored === null ? {} : { weights: stored.text }),
      model: describeModel(spec),
      wrote: `${out} (${options.format} names): ${size}`,
      ...(await samplingFacts(training, options.format === 'diffusers' ? out : null)),
    });
    const hashes = [...written.sha256].map(([file, hash]) => `sha256 ${hash}  ${file}`);
    printPage(`${[...lines, ...hashes].join('\n')}\n`);
  });
}

/** How to sample from exported weights. For diffusers' folder, the scheduler is written, too. */
async function samplingFacts(
  training: Training | null,
  folder: string | null,
): Promise<Record<string, string>> {
  if (training === null) return {};
  const { formulation, shift } = training;
  const facts = {
    sampling: `${formulation}, shift ${shift}; unconditional = zeros in place of all text features`,
  };
  if (folder === null) return facts;
  if (!/^rf(\/|$)/.test(formulation)) {
    const none = `none: diffusers' FlowMatchEulerDiscreteScheduler is for rf, not for ${formulation}`;
    return { ...facts, scheduler: none };
  }
  const { path, shift: stated } = await writeScheduler(folder, shift);
  const kept = stated === shift ? '' : ` (was there before: shift ${JSON.stringify(stated)}, not ${shift})`;
  return { ...facts, scheduler: `${path}${kept}` };
}
