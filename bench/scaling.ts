/** One sample on two threads that share its slot, against one thread, in turns. */
import { type Precision, startEngine } from './engine.js';
import { TWO_THREADS } from './goals.js';
import { gigaflops, goal, median, milliseconds, print, table } from './report.js';
import { stepSeconds } from './round-process.js';
import { ONE_SAMPLE } from './shapes.js';

export async function benchScaling(rounds: number, seconds: number, precision: Precision): Promise<void> {
  print(`\n## One sample on two threads: ${ONE_SAMPLE.name}, ${precision}\n`);
  const sides = [];
  for (const threads of [1, 2]) {
    const started = await startEngine({ shape: ONE_SAMPLE, precision, threads, threadsPerSlot: threads });
    await started.process.run(0.5);
    sides.push({ ...started, threads, steps: [] as number[] });
  }
  for (let i = 0; i < rounds; i++) {
    for (const side of i % 2 === 0 ? sides : sides.toReversed()) {
      await side.process.run(0);
      side.steps.push(stepSeconds(await side.process.run(seconds)));
    }
  }
  for (const { process } of sides) await process.stop();
  print(
    table(
      ['', 'model FLOP/s', 'step'],
      sides.map(({ threads, steps, ready }) => [
        threads === 1 ? '1 thread' : `${threads} threads`,
        gigaflops(ready.flopsPerStep / median(steps)),
        milliseconds(median(steps)),
      ]),
    ),
  );
  const [one = [], two = []] = sides.map(({ steps }) => steps);
  const factor = median(two.map((step, i) => (one[i] as number) / step));
  print(`\ntwo threads are ${factor.toFixed(2)} x as fast as one`);
  if (precision === 'fp32') goal(`at least ${TWO_THREADS} x`, factor >= TWO_THREADS);
}
