/** `orchestrator sample`: draws pictures of prompts with a trained model. */
import { existsSync, readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { OrchestratorError } from '../../errors.js';
import { readFailure } from '../../files/io.js';
import { writeGrid } from '../../shapes/pictures.js';
import { counted } from '../../text/quantities.js';
import { picturePath, positiveInteger } from '../arguments.js';
import { type SamplerOptions, samplerOptions, withShapesModel } from '../sampler-options.js';

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
    .addOption(new Option('--prompt <text...>', 'what to draw; accepts several').default([], 'none'))
    .option(
      '--prompts <file>',
      'text file with one prompt per line; empty lines and lines that start with # are skipped',
    )
    .option('--repeat <n>', 'pictures per prompt', positiveInteger, 1)
    .option('--columns <n>', 'pictures per row', positiveInteger)
    .requiredOption('--out <file>', 'picture to write: .png, .jpg or .webp', picturePath);
  samplerOptions(command, 'seed of the initial noise').action(sample);
}

async function sample(options: Options): Promise<void> {
  const prompts = [...options.prompt, ...(options.prompts === undefined ? [] : readPrompts(options.prompts))];
  if (prompts.length === 0) {
    throw new OrchestratorError('ERR_USAGE', 'Nothing to draw: give --prompt TEXT or --prompts FILE');
  }
  const repeated = prompts.flatMap((prompt) => Array.from({ length: options.repeat }, () => prompt));
  await withShapesModel(options, async (model, settings) => {
    process.stderr.write(`${model.path} | step ${model.step} | shift ${settings.shift}\n`);
    const pixels = await model.sample(repeated, settings);
    const pictures = repeated.map((label, i) => ({ label, pixels: pixels[i]! }));
    const replaced = existsSync(options.out) ? ' | replaces the file of this name' : '';
    const { width, height } = await writeGrid(pictures, options.out, options.columns ?? null);
    process.stdout.write(
      `${options.out} | ${counted(pictures.length, 'picture')} | ${width} x ${height}${replaced}\n`,
    );
  });
}

function readPrompts(path: string): string[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw readFailure('read', path, cause);
  }
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}
