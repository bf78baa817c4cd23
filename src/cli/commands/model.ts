/** `orchestrator model`: inspects and converts files of weights, and evaluates a model on a given case. */
import { availableParallelism } from 'node:os';
import { type Command, Option } from 'commander';
import { readCase, resultTensors } from '../../engine/case.js';
import { locateWeights } from '../../engine/inference.js';
import { loadWeights } from '../../engine/load.js';
import { requireMemory } from '../../engine/memory.js';
import { OrchestratorError } from '../../errors.js';
import { replaceFile } from '../../files/io.js';
import type { OutputDtype } from '../../formats/safetensors/dtype.js';
import { writeSafetensors } from '../../formats/safetensors/file.js';
import type { Format } from '../../model/recognise.js';
import { releasedName } from '../../model/released.js';
import { describeModel, elementCount, expectedParameters } from '../../model/tensors.js';
import { type TransferOptions, writeWeights } from '../../model/transfer.js';
import { Weights } from '../../model/weights.js';
import type { EngineSpec } from '../../native/contract.js';
import { native } from '../../native/load.js';
import { namedRows } from '../../text/columns.js';
import { bytes, counted } from '../../text/quantities.js';
import { shardSize } from '../arguments.js';
import { choiceOption } from '../options.js';
import { printResult } from '../output.js';
import { tensorLines, tensorsOf } from '../tensor-table.js';

interface EvalOptions {
  weights: string;
  case: string;
  out: string;
  grads?: true;
  precision: 'fp32' | 'bf16';
}

export function register(program: Command): void {
  const model = program
    .command('model')
    .description('inspect and convert weights, and run a model on a given case');
  model
    .command('eval')
    .description('compute velocity, loss and gradients of a model for explicit inputs')
    .requiredOption(
      '--weights <file>',
      "safetensors file, index or folder, with the official names or diffusers'",
    )
    .requiredOption('--case <file>', 'safetensors file with x0, eps, context, pooled, t, and optionally z_t')
    .requiredOption('--out <file>', 'safetensors file to write: velocity, loss, and gradients by name')
    .option('--grads', 'also compute the gradients of mean((velocity - (eps - x0))^2)')
    .addOption(choiceOption('--precision <precision>', 'arithmetic', ['fp32', 'bf16']))
    .action(evaluate);
  model
    .command('inspect')
    .description('print the model in a file of weights, and its tensors')
    .argument('<path>', PLACES)
    .option('--json', 'print JSON')
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
    .addOption(choiceOption('--weights <weights>', 'which weights of a checkpoint', ['ema', 'master']))
    .addOption(dtypeOption())
    .addOption(
      new Option('--shard-size <size>', "maximum size of a file in diffusers' folder; 0 = one file")
        .argParser(shardSize)
        .default(10e9, '10GB'),
    )
    .action(exportWeights);
}

const PLACES =
  "a checkpoint's or run's folder, a safetensors file, *.safetensors.index.json, or diffusers' folder";

function dtypeOption(): Option {
  const types = ['same', 'F32', 'F16', 'BF16'];
  return choiceOption('--dtype <type>', 'element type to write; same = unchanged, bit for bit', types);
}

async function evaluate(options: EvalOptions): Promise<void> {
  const weights = await Weights.open(options.weights);
  await weights.close();
  const { spec } = weights;
  const input = await readCase(options.case, spec);
  const { samples, latentHeight, latentWidth, contextTokens } = input;
  const { precision } = options;
  const training = options.grads === true;
  const engineSpec: EngineSpec = {
    model: spec,
    latentHeight,
    latentWidth,
    contextTokens,
    microBatch: samples,
    precision,
    residual: precision,
    recompute: 'nothing',
    threads: availableParallelism(),
    threadsPerSlot: availableParallelism(),
    device: null,
    training,
    ema: false,
  };
  requireMemory(native(), engineSpec);
  const engine = await native().createEngine(engineSpec);
  try {
    const note = await loadWeights(engine, spec, options.weights);
    if (note !== null) process.stderr.write(`${note}\n`);
    const result = await engine.evaluateCase(input.batch, input.target, training);
    const tensors = resultTensors(engine.layout(), input, result);
    await replaceFile(options.out, (path) => writeSafetensors(path, tensors, { precision }));
    const facts = {
      model: describeModel(spec),
      case: `${samples} samples of ${latentHeight} x ${latentWidth}, ${contextTokens} tokens`,
      loss: String(result.loss),
      wrote: `${tensors.length} tensors to ${options.out} (${precision})`,
    };
    process.stdout.write(`${namedRows(facts).join('\n')}\n`);
  } finally {
    await engine.close();
  }
}

async function inspect(path: string, { json }: { json?: true }): Promise<void> {
  const source = await locateWeights(path, 'master');
  const weights = await Weights.open(source.path);
  try {
    const { spec, note, tensors } = weights.description;
    const { files, bytes: size } = weights.files;
    const description = {
      path: source.path,
      model: spec,
      released: releasedName(spec),
      format: tensors.format,
      parameters: elementCount(expectedParameters(spec)),
      files,
      bytes: size,
      skipped: tensors.skipped,
      note,
      tensors: tensorsOf(weights.files),
    };
    printResult(description, json, ({ released, format, parameters, tensors: found }) => {
      const facts = {
        model: `${describeModel(spec)}${released === null ? '' : ` (${released})`}`,
        parameters: parameters.toLocaleString('en-US'),
        names: `${format}, ${tensors.names.size} tensors: ${typesOf(weights)}`,
        files: `${files.length}, ${bytes(size)}`,
      };
      const notes = note === null ? [] : [note];
      return `${[...namedRows(facts), ...notes, ...tensorLines(found)].join('\n')}\n`;
    });
  } finally {
    await weights.close();
  }
}

/** The types of the model's tensors: "488 F16, 3 F32". */
function typesOf(weights: Weights): string {
  const counts = new Map<string, number>();
  for (const name of weights.description.tensors.names.values()) {
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
  weights: 'ema' | 'master';
  shardSize: number | null;
}

/** The sample_size in config.json of SD3 and SD3.5: 128 latents, 1024 pixels. */
const RELEASED_SAMPLE_SIZE = 128;

async function importWeights(path: string, { out, format, dtype }: TransferFlags): Promise<void> {
  await transfer(await Weights.open(path), [], out, format, {
    format: 'official',
    dtype: dtype === 'same' ? null : dtype,
    shardBytes: null,
    sampleSize: RELEASED_SAMPLE_SIZE,
  });
}

async function exportWeights(path: string, flags: ExportFlags): Promise<void> {
  const { path: found, notes, manifest } = await locateWeights(path, flags.weights);
  await transfer(await Weights.open(found), notes, flags.out, 'auto', {
    format: flags.format,
    dtype: flags.dtype === 'same' ? null : flags.dtype,
    shardBytes: flags.shardSize,
    sampleSize: manifest?.latent[1] ?? RELEASED_SAMPLE_SIZE,
  });
}

async function transfer(
  weights: Weights,
  notes: readonly string[],
  out: string,
  expected: Format | 'auto',
  options: TransferOptions,
): Promise<void> {
  try {
    const { spec, note, tensors } = weights.description;
    if (expected !== 'auto' && expected !== tensors.format) {
      throw new OrchestratorError(
        'ERR_MODEL_TENSORS',
        `${weights.path}: expected ${expected} names, found ${tensors.format} names`,
      );
    }
    for (const line of note === null ? notes : [...notes, note]) process.stderr.write(`${line}\n`);
    const written = await writeWeights(weights, out, options);
    const size = `${written.tensors} tensors, ${bytes(written.bytes)} in ${counted(written.files, 'file')}`;
    const lines = namedRows({
      read: `${weights.path} (${tensors.format} names)`,
      model: describeModel(spec),
      wrote: `${out} (${options.format} names): ${size}`,
    });
    const hashes = [...written.sha256].map(([file, hash]) => `sha256 ${hash}  ${file}`);
    process.stdout.write(`${[...lines, ...hashes].join('\n')}\n`);
  } finally {
    await weights.close();
  }
}
