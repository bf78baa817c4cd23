/**
 * The average of the weights in a real run: its values, what says how old it is, and what refuses to use it.
 */
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { Safetensors } from '../../src/formats/safetensors/file.js';
import { temporaryFolder } from '../support/folders.js';
import { ends, launch } from '../support/launched.js';
import { orchestrator, succeeds } from '../support/program.js';

const folder = temporaryFolder();
const short = ['schedule.warmup=0', 'checkpoint={every: 0, keep: 4}', 'validation.every=0'];
const sets = (...assignments: string[]) => assignments.flatMap((assignment) => ['--set', assignment]);
const checkpoint = (runDir: string, step: number, file: string) =>
  join(runDir, 'checkpoints', `step-0000000${step}`, file);

/** A run to each of these steps in turn, because the last checkpoint alone is certain to be written. */
async function trainTo(runDir: string, steps: readonly number[], ...assignments: string[]): Promise<string> {
  let last = '';
  for (const step of steps) {
    const to = `schedule.steps=${step}`;
    ({ output: last } = await ends(launch(runDir, 1, ...sets(...short, ...assignments, to)), 0));
  }
  return last;
}

async function valuesOf(path: string, tensor: string): Promise<Float32Array> {
  const file = await Safetensors.open(path);
  try {
    const { elements } = file.tensors.get(tensor)!;
    const values = new Float32Array(elements);
    await file.readElements(tensor, 0, values);
    return values;
  } finally {
    await file.close();
  }
}

test('is that of fp64 arithmetic with the decay (1 + n) / (10 + n)', async () => {
  const runDir = join(folder, 'warm');
  await trainTo(runDir, [1, 2, 3], 'ema={decay: 0.3, every: 1}');
  const tensor = 'model.diffusion_model.final_layer.linear.weight';
  // The third update would keep 4 / 13 = 0.308, and is held to the decay.
  for (const [step, decay] of [
    [2, 3 / 12],
    [3, 0.3],
  ] as const) {
    const before = await valuesOf(checkpoint(runDir, step - 1, 'ema.safetensors'), tensor);
    const after = await valuesOf(checkpoint(runDir, step, 'ema.safetensors'), tensor);
    const master = await valuesOf(checkpoint(runDir, step, 'model.safetensors'), tensor);
    let error = 0;
    let moved = 0;
    for (const [i, value] of after.entries()) {
      error = Math.max(error, Math.abs(value - (decay * before[i]! + (1 - decay) * master[i]!)));
      moved = Math.max(moved, Math.abs(value - before[i]!));
    }
    expect(error).toBeLessThan(1e-7);
    expect(moved).toBeGreaterThan(1e-5);
  }
});

describe('of a run that is too short for it', () => {
  const runDir = join(folder, 'short');
  const text =
    'EMA of step 4 (decay 0.9 every 100 steps with warm-up): no update yet, so it is the starting weights';
  let output: string;
  beforeAll(async () => {
    output = await trainTo(runDir, [1, 4], 'ema.every=100');
  });

  test('is the starting weights bit for bit, which the launch warns of', async () => {
    expect(output).toMatch(
      /^warn ema\.every \(100\) is more than schedule\.steps \(4\): the EMA will be the starting/m,
    );
    const tensor = 'model.diffusion_model.x_embedder.proj.weight';
    const [first, last, master] = await Promise.all([
      valuesOf(checkpoint(runDir, 1, 'ema.safetensors'), tensor),
      valuesOf(checkpoint(runDir, 4, 'ema.safetensors'), tensor),
      valuesOf(checkpoint(runDir, 4, 'model.safetensors'), tensor),
    ]);
    expect(last).toEqual(first);
    expect(master).not.toEqual(first);
  });

  test('leaves only when it is asked for by name', () => {
    const out = join(folder, 'export.safetensors');
    const refused = orchestrator('model', 'export', runDir, '--out', out);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain(
      `error ERR_EMA_UNTRAINED: ${checkpoint(runDir, 4, 'ema.safetensors')}: ${text}\n`,
    );
    expect(refused.stderr).toMatch(/^hint: .*--weights master.* .*--weights ema/m);
    const trained = succeeds(orchestrator('model', 'export', runDir, '--weights', 'master', '--out', out));
    expect(trained).toMatch(/^weights +master weights of step 4$/m);
    for (const path of [[runDir, '--weights', 'ema'], [checkpoint(runDir, 4, 'ema.safetensors')]]) {
      const asked = orchestrator('model', 'export', ...path, '--out', out);
      expect(succeeds(asked)).toContain(text);
      expect(asked.stderr).toContain('warn this average shows little of the training');
    }
  });

  test('is described by checkpoint inspect and model inspect', () => {
    expect(succeeds(orchestrator('checkpoint', 'inspect', runDir))).toContain(text);
    const average = checkpoint(runDir, 4, 'ema.safetensors');
    expect(succeeds(orchestrator('model', 'inspect', average))).toContain(text);
    // It takes the master weights of a run, and says so.
    expect(succeeds(orchestrator('model', 'inspect', runDir))).toMatch(
      /^weights +master weights of step 4; the checkpoint also holds the EMA, which `model export` takes by default$/m,
    );
  });
});
