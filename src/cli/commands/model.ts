/** `orchestrator model`: files of weights, and what they make of a given case. */
import { type Command, Option } from 'commander';
import { replaceFile } from '../../checkpoint/io.js';
import { SafetensorsFile, writeSafetensors } from '../../checkpoint/safetensors.js';
import { type Case, readCase, resultTensors } from '../../model/case.js';
import { describeModel, elementCount, expectedParameters } from '../../model/tensors.js';
import { describeWeights, loadWeights } from '../../model/weights.js';
import type { ModelSpec } from '../../native/contract.js';
import { native } from '../../native/load.js';
import { tensorLines, tensorsOf } from '../tensor-table.js';

interface EvalOptions {
  weights: string;
  case: string;
  out: string;
  grads?: true;
  precision: 'fp32' | 'bf16';
}

export function register(program: Command): void {
  const model = program.command('model').description('look at weights, and run a model on a given case');
  model
    .command('eval')
    .description('compute velocity, loss and gradients of a model for a case with explicit inputs')
    .requiredOption('--weights <file>', 'safetensors file under the official names')
    .requiredOption('--case <file>', 'safetensors file with x0, eps, context, pooled, t, and z_t or none')
    .requiredOption('--out <file>', 'safetensors file to write: velocity, loss, and the gradients by name')
    .option('--grads', 'also compute the gradients of mean((velocity - (eps - x0))^2)')
    .addOption(new Option('--precision <precision>', 'arithmetic').choices(['fp32', 'bf16']).default('fp32'))
    .action(evaluate);
  model
    .command('inspect')
    .description('print the model that a file of weights holds, and its tensors')
    .argument('<file>', 'safetensors file under the official names')
    .option('--json', 'print JSON')
    .action(inspect);
}

async function readSpec(path: string): Promise<ModelSpec> {
  const file = await SafetensorsFile.open(path);
  try {
    return describeWeights(file).spec;
  } finally {
    await file.close();
  }
}

async function evaluate(options: EvalOptions): Promise<void> {
  const spec = await readSpec(options.weights);
  const input = await readCase(options.case, spec);
  const training = options.grads === true;
  const engine = native().createEngine({
    model: spec,
    latentHeight: input.latentHeight,
    latentWidth: input.latentWidth,
    contextTokens: input.contextTokens,
    microBatch: input.samples,
    precision: options.precision,
    residual: options.precision,
    recompute: 'nothing',
    threads: 1,
    training,
    ema: false,
  });
  try {
    const note = await loadWeights(engine, spec, options.weights);
    if (note !== null) process.stderr.write(`${note}\n`);
    const result = await engine.evaluateCase(input.batch, input.target, training);
    const tensors = resultTensors(engine.layout(), input, result);
    await replaceFile(options.out, (path) =>
      writeSafetensors(path, tensors, { precision: options.precision }),
    );
    process.stdout.write(`${report(spec, input, result.loss, tensors.length, options)}\n`);
  } finally {
    engine.close();
  }
}

function report(spec: ModelSpec, input: Case, loss: number, tensors: number, options: EvalOptions): string {
  return [
    `model    ${describeModel(spec)}`,
    `case     ${input.samples} samples of ${input.latentHeight} x ${input.latentWidth}, ${input.contextTokens} tokens`,
    `loss     ${loss}`,
    `wrote    ${tensors} tensors to ${options.out} (${options.precision})`,
  ].join('\n');
}

async function inspect(path: string, options: { json?: true }): Promise<void> {
  const file = await SafetensorsFile.open(path);
  try {
    const { spec, note } = describeWeights(file);
    const parameters = elementCount(expectedParameters(spec));
    const tensors = tensorsOf(file);
    if (options.json) {
      process.stdout.write(`${JSON.stringify({ path, model: spec, parameters, note, tensors }, null, 2)}\n`);
      return;
    }
    const lines = [`model       ${describeModel(spec)}`, `parameters  ${parameters.toLocaleString('en-US')}`];
    if (note !== null) lines.push(note);
    process.stdout.write(`${[...lines, ...tensorLines(tensors)].join('\n')}\n`);
  } finally {
    await file.close();
  }
}
