import { describe, expect, test } from 'vitest';
import { choice } from '../../../bench/engine.js';
import { stepGoal } from '../../../bench/goals.js';
import { heldTo } from '../../../bench/instruction-set.js';
import { median } from '../../../bench/report.js';
import { RoundProcess } from '../../../bench/round-process.js';
import { ONE_SAMPLE, SHAPES } from '../../../bench/shapes.js';

const [smallest, larger] = SHAPES as [(typeof SHAPES)[number], (typeof SHAPES)[number]];

describe('goals', () => {
  test('depend on the instruction set, the precision and the shape', () => {
    expect(stepGoal('avx2', 'fp32', smallest)).toEqual({ ofPeak: 0.75, factor: 1.35 });
    expect(stepGoal('avx2', 'fp32', larger)).toEqual({ ofPeak: 0.8, factor: 1.15 });
    expect(stepGoal('avx512bf16', 'bf16', larger)).toEqual({ ofPeak: 0.75, factor: 1.5 });
    expect(stepGoal('avx512bf16', 'fp32', larger)).toEqual(stepGoal('avx512', 'fp32', larger));
  });

  test('are not set where bf16 has no instructions, nor for other instruction sets', () => {
    expect(stepGoal('avx2', 'bf16', smallest)).toBeNull();
    expect(stepGoal('neon', 'fp32', larger)).toBeNull();
  });
});

describe('PyTorch', () => {
  test('is held to the instruction set that ORCHESTRATOR_ISA names', () => {
    expect(heldTo('avx2')).toEqual({
      environment: {
        ATEN_CPU_CAPABILITY: 'avx2',
        ONEDNN_MAX_CPU_ISA: 'AVX2',
        MKL_ENABLE_INSTRUCTIONS: 'AVX2',
        TORCHINDUCTOR_CPP_MARCH: 'x86-64-v3',
      },
      simdBits: 256,
      capability: 'AVX2',
    });
    expect(heldTo('avx512').environment).toMatchObject({ ONEDNN_MAX_CPU_ISA: 'AVX512_CORE' });
  });

  test('is free where it names none', () => {
    for (const isa of [undefined, '']) expect(heldTo(isa).environment).toEqual({});
  });
});

describe('a process of rounds', () => {
  const start = (script: string) =>
    RoundProcess.start<
      { parameters: number },
      { steps: number; seconds: number; loss: number; peakBytes: number }
    >('a test', process.execPath, ['-e', script], { BENCH_TEST: '7' });

  test('answers each line, beside what libraries print', async () => {
    const { process: rounds, ready } = await start(`
      console.log('a verbose library');
      console.log(JSON.stringify({ parameters: Number(process.env.BENCH_TEST) }));
      require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
        const [seconds, steps] = line.split(' ').map(Number);
        console.log(JSON.stringify({ seconds, steps, loss: 1, peakBytes: 2 }));
      });`);
    expect(ready).toEqual({ parameters: 7 });
    expect(await rounds.run(0.5, 3)).toEqual({ seconds: 0.5, steps: 3, loss: 1, peakBytes: 2 });
    expect(await rounds.run(2)).toMatchObject({ seconds: 2, steps: 1 });
    await rounds.stop();
  });

  test('is named where it ends early', async () => {
    await expect(start('process.exit(3)')).rejects.toThrow('a test: the process ended early');
  });
});

test('threads share a slot where there are fewer slots than threads', () => {
  expect(choice(smallest, 'fp32', 2).threadsPerSlot).toBe(1);
  expect(choice(larger, 'fp32', 2).threadsPerSlot).toBe(2);
  expect(choice(ONE_SAMPLE, 'fp32', 1).threadsPerSlot).toBe(1);
});

test('the median of an even number is the middle of two', () => {
  expect(median([4, 1, 3, 2])).toBe(2.5);
});
