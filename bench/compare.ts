/**
 * Compares whole steps of this build with those of another build's addon, in turns, with the same settings.
 */
import { existsSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { addonPath } from '../src/native/load.js';
import { choice, type Precision, startEngine } from './engine.js';
import { SLOWER } from './goals.js';
import { goal, median, milliseconds, percent, print } from './report.js';
import { stepSeconds } from './round-process.js';
import type { BenchShape } from './shapes.js';

/** The addon's file for a path, which is the file itself or the checkout that built it. */
export function addonOf(path: string): string {
  const folder = existsSync(path) && statSync(path).isDirectory();
  return resolve(folder ? join(path, 'build/Release/orchestrator.node') : path);
}

export async function compareBuilds(
  shape: BenchShape,
  other: string,
  {
    precision,
    threads,
    rounds,
    seconds,
  }: { precision: Precision; threads: number; rounds: number; seconds: number },
): Promise<void> {
  print(`\n## ${shape.name}, ${precision}: against ${other}\n`);
  const sides = [];
  for (const addon of [addonPath(), other]) {
    const { process } = await startEngine(choice(shape, precision, threads), addon);
    const { loss } = await process.run(0, 2);
    sides.push({ process, losses: [loss], steps: [] as number[], peakBytes: 0 });
  }
  const [ours, theirs] = sides as [(typeof sides)[number], (typeof sides)[number]];
  // Both train the same number of steps, so that their losses can be compared.
  const perRound = Math.max(1, Math.round(seconds / stepSeconds(await ours.process.run(0, 1))));
  await theirs.process.run(0, 1);
  for (let i = 0; i < rounds; i++) {
    for (const side of i % 2 === 0 ? [ours, theirs] : [theirs, ours]) {
      await side.process.run(0, 1);
      const round = await side.process.run(0, perRound);
      side.steps.push(stepSeconds(round));
      side.losses.push(round.loss);
      side.peakBytes = round.peakBytes;
    }
  }
  for (const { process } of sides) await process.stop();
  const times = theirs.steps.map((step, i) => (ours.steps[i] as number) / step);
  const ratio = median(times);
  const spread = `${Math.min(...times).toFixed(3)} to ${Math.max(...times).toFixed(3)} in ${rounds} rounds of ${perRound} steps`;
  print(
    `step ${milliseconds(median(ours.steps))} against ${milliseconds(median(theirs.steps))}: ${ratio.toFixed(3)} of the other's time (${spread})`,
  );
  print(`peak memory ${percent(ours.peakBytes / theirs.peakBytes)} of the other's`);
  const same = ours.losses.every((loss, i) => loss === theirs.losses[i]);
  const last = 3 + rounds * (perRound + 1);
  print(
    `losses ${same ? 'identical' : 'not identical'}: ${ours.losses[0]} and ${theirs.losses[0]} at step 2, ` +
      `${ours.losses.at(-1)} and ${theirs.losses.at(-1)} at step ${last}`,
  );
  goal(`not slower by more than ${percent(SLOWER)}`, ratio <= 1 + SLOWER);
}
