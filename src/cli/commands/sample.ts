/** `orchestrator sample`: pictures of prompts, drawn by a trained model. */
import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { OrchestratorError } from '../../errors.js';
import { writeGrid } from '../../sampling/pictures.js';
import { openShapesModel } from '../../sampling/shapes-model.js';
import { Progress } from '../progress.js';
import {
  inferenceOptions,
  positiveInteger,
  type SamplerOptions,
  samplerOptions,
  seedOption,
} from '../sampler-options.js';

interface Options extends SamplerOptions {
  prompt: string[];
  prompts?: string;
  repeat: number;
  columns?: number;
  out: string;
}

export function register(program: Command): void {
  const command = program
    .command('sample')
    .description('draw pictures of prompts with a trained model of the shapes world')
    .addOption(new Option('--prompt <text...>', 'what to draw; several allowed').default([]))
    .option('--prompts <file>', 'text file with one prompt a line; empty lines and lines with # are skipped')
    .option('--repeat <n>', 'pictures of each prompt', positiveInteger, 1)
    .option('--columns <n>', 'pictures a row', positiveInteger)
    .addOption(seedOption('seed of the initial noise'))
    .requiredOption('--out <png>', 'the picture to write');
  samplerOptions(command).action(sample);
}

async function sample(options: Options): Promise<void> {
  const prompts = [...options.prompt, ...(options.prompts === undefined ? [] : readPrompts(options.prompts))];
  if (prompts.length === 0) {
    throw new OrchestratorError('ERR_USAGE', 'Nothing to draw: give --prompt TEXT or --prompts FILE');
  }
  const repeated = prompts.flatMap((prompt) => Array.from({ length: options.repeat }, () => prompt));
  const model = await openShapesModel(options.checkpoint, inferenceOptions(options));
  try {
    for (const note of model.notes) process.stderr.write(`note: ${note}\n`);
    process.stderr.write(`${model.path} | step ${model.step} | shift ${options.shift ?? model.shift}\n`);
    const progress = new Progress('sampling', 'steps');
    const pixels = await model.sample(repeated, {
      ...options,
      shift: options.shift ?? model.shift,
      onProgress: (done, total) => progress.update(done, total),
    });
    const pictures = repeated.map((label, i) => ({ label, pixels: pixels[i]! }));
    const { width, height } = await writeGrid(pictures, options.out, options.columns ?? null);
    process.stdout.write(`${options.out} | ${pictures.length} pictures | ${width} x ${height}\n`);
  } finally {
    model.close();
  }
}

function readPrompts(path: string): string[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new OrchestratorError('ERR_FILE_OPEN', `Cannot read ${path}: ${(cause as Error).message}`, {
      cause,
    });
  }
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}
