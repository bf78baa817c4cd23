/**
 * `orchestrator model eval` against velocity, loss and gradients that the original SD3.5 implementation
 * computed in fp64 (test/fixtures/mmdit/README.md): three models, in fp32 and in bf16.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Safetensors } from '../../src/formats/safetensors/file.js';
import { Weights } from '../../src/model/weights.js';
import { temporaryFolder } from '../support/folders.js';
import { orchestrator, succeeds } from '../support/program.js';

const FIXTURES = new URL('../fixtures/mmdit/', import.meta.url).pathname;
const CASES: Record<string, { loss: number }> = JSON.parse(readFileSync(`${FIXTURES}manifest.json`, 'utf8'));
/**
 * Fixtures whose gradients are kept whole; of the others every 37th element is (see the fixtures' README).
 */
const WHOLE = new Set(['sd35-medium-like']);

type Tensors = Map<string, { shape: number[]; values: Float32Array }>;

async function readTensors(
  path: string,
): Promise<{ tensors: Tensors; metadata: ReadonlyMap<string, string> }> {
  const file = await Safetensors.open(path);
  const tensors: Tensors = new Map();
  for (const { name, shape } of file.tensors.values())
    tensors.set(name, { shape, values: await file.read(name) });
  await file.close();
  return { tensors, metadata: file.metadata };
}

function norm(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

function relativeError(found: Float32Array, expected: Float32Array): number {
  expect(found.length).toBe(expected.length);
  return norm(found.map((value, i) => value - expected[i]!)) / norm(expected);
}

/** The elements of a whole gradient that the sampled fixture has. */
function sampled(values: Float32Array, stride: number): Float32Array {
  return values.length <= 2048 ? values : values.filter((_, i) => i % stride === 0);
}

const folder = temporaryFolder();

function modelEval(name: string, out: string, ...more: string[]): void {
  const [weights, input] = ['weights', 'case'].map((part) => `${FIXTURES}${name}.${part}.safetensors`);
  const files = ['--weights', weights!, '--case', input!, '--out', out];
  succeeds(orchestrator('model', 'eval', ...files, ...more));
}

const evaluated = new Map<string, Promise<Tensors>>();

/** With gradients; once for all tests. */
function evaluate(name: string, precision: string): Promise<Tensors> {
  const out = join(folder, `${name}.${precision}.safetensors`);
  const found = evaluated.get(out);
  if (found !== undefined) return found;
  modelEval(name, out, '--grads', '--precision', precision);
  const tensors = readTensors(out).then((read) => read.tensors);
  evaluated.set(out, tensors);
  return tensors;
}

interface Errors {
  velocity: number;
  loss: number;
  /** By name: tensors whose gradient is not zero everywhere. */
  gradients: Map<string, number>;
}

/** Compares shapes and names exactly, and everything else by relative L2. */
async function compare(name: string, found: Tensors): Promise<Errors> {
  const { tensors: input } = await readTensors(`${FIXTURES}${name}.case.safetensors`);
  const file = `${FIXTURES}${name}.${WHOLE.has(name) ? 'grads' : 'grads-sampled'}.safetensors`;
  const { tensors: expected, metadata } = await readTensors(file);
  expect(new Set(found.keys())).toEqual(new Set([...expected.keys(), 'velocity', 'loss']));
  const norms: Record<string, number> = JSON.parse(metadata.get('norms') ?? '{}');
  const stride = Number(metadata.get('stride') ?? 1);
  const gradients = new Map<string, number>();
  for (const [tensor, { values, shape }] of expected) {
    const gradient = found.get(tensor)!;
    if (WHOLE.has(name)) expect(gradient.shape).toEqual(shape);
    const whole = norms[tensor] ?? norm(values);
    if (whole === 0) {
      expect(norm(gradient.values), tensor).toBe(0);
      continue;
    }
    const ofElements = relativeError(
      WHOLE.has(name) ? gradient.values : sampled(gradient.values, stride),
      values,
    );
    const ofNorm = Math.abs(norm(gradient.values) / whole - 1);
    gradients.set(tensor, Math.max(ofElements, ofNorm));
  }
  const loss = found.get('loss')!.values[0]!;
  return {
    velocity: relativeError(found.get('velocity')!.values, input.get('velocity')!.values),
    loss: Math.abs(loss / CASES[name]!.loss - 1),
    gradients,
  };
}

describe.each(Object.keys(CASES))('%s', (name) => {
  test('in fp32', async () => {
    const errors = await compare(name, await evaluate(name, 'fp32'));
    expect(errors.velocity).toBeLessThan(2e-5);
    expect(errors.loss).toBeLessThan(2e-5);
    for (const [tensor, error] of errors.gradients) {
      expect(error, tensor).toBeLessThan(/\.ln_[qk]\.weight$/.test(tensor) ? 1e-4 : 5e-5);
    }
  });

  test('in bf16', async () => {
    const errors = await compare(name, await evaluate(name, 'bf16'));
    expect(errors.velocity).toBeLessThan(0.013);
    const sorted = [...errors.gradients.values()].sort((a, b) => a - b);
    expect(sorted[sorted.length >> 1]).toBeLessThan(0.023);
    expect(sorted.at(-1)).toBeLessThan(0.07);
  });

  test.each(['fp32', 'bf16'])(
    'gives the unused queries of the last context block a gradient of zeros, in %s',
    async (precision) => {
      const found = await evaluate(name, precision);
      const file = await Safetensors.open(`${FIXTURES}${name}.weights.safetensors`);
      const { depth, heads, qkNorm } = new Weights(file).spec;
      await file.close();
      const attention = `model.diffusion_model.joint_blocks.${depth - 1}.context_block.attn`;
      const hidden = heads * 64;
      for (const [tensor, columns] of [
        [`${attention}.qkv.weight`, hidden],
        [`${attention}.qkv.bias`, 1],
      ] as const) {
        const { values } = found.get(tensor)!;
        expect(norm(values.subarray(0, hidden * columns)), tensor).toBe(0);
        expect(norm(values.subarray(hidden * columns)), tensor).toBeGreaterThan(0);
      }
      if (qkNorm === 'rms') {
        expect(found.get(`${attention}.ln_q.weight`)!.values).toEqual(new Float32Array(64));
        expect(norm(found.get(`${attention}.ln_k.weight`)!.values)).toBeGreaterThan(0);
      }
    },
  );
});

describe('without --grads', () => {
  test('writes velocity and loss alone, equal to those with gradients', async () => {
    const name = 'sd35-medium-like';
    const whole = await evaluate(name, 'fp32');
    const out = join(folder, 'forward.safetensors');
    modelEval(name, out);
    const { tensors } = await readTensors(out);
    expect([...tensors.keys()].sort()).toEqual(['loss', 'velocity']);
    expect(tensors.get('velocity')!.shape).toEqual([2, 16, 8, 8]);
    expect(relativeError(tensors.get('velocity')!.values, whole.get('velocity')!.values)).toBeLessThan(1e-6);
  });
});
