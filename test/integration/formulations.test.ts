/** Training of other formulations than the default: its bits, what may follow on it, and which steps stay. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { listCheckpoints } from '../../src/checkpoint/retention.js';
import { temporaryFolder } from '../support/folders.js';
import { rows } from '../support/full.js';
import { ends, fingerprint, launch, readLines } from '../support/launched.js';

const folder = temporaryFolder();
const set = (...keys: string[]) => keys.flatMap((key) => ['--set', key]);
const short = set(
  'schedule.steps=4',
  'validation.every=2',
  'checkpoint.every=0',
  'telemetry.attention_every=0',
);

interface Validation {
  step: number;
  val_ema: number;
}
const validationsOf = (runDir: string) =>
  readLines(join(runDir, 'metrics.jsonl')).filter(
    ({ type }) => type === 'validation',
  ) as unknown as Validation[];

describe('other formulations', () => {
  test.each(rows(['edm(-1.2,1.2)'], ['eps/linear', 'edm/cos(matched)']))(
    '%s: any number of workers has the same bits',
    async (name) => {
      const formulation = set(`objective.formulation=${name}`);
      const [one, two] = [1, 2].map((nodes) => join(folder, `${name.replace('/', '-')} of ${nodes}`));
      await Promise.all([
        ends(launch(one!, 1, ...short, ...formulation), 0),
        ends(launch(two!, 2, ...short, ...formulation), 0),
      ]);
      expect(fingerprint(two!, 4)).toEqual(fingerprint(one!, 4));
      const [first] = validationsOf(one!);
      const losses = Object.entries(first!).filter(([key]) => key.startsWith('val_ema_t_'));
      expect(losses).toHaveLength(3);
      const errors = Object.entries(first!).filter(([key]) => key.startsWith('val_ema_log_snr_'));
      expect(errors[0]![0]).toBe('val_ema_log_snr_-5.25');
      expect(errors).toHaveLength(8);
      for (const [, error] of errors) expect(error).toBeGreaterThan(0);
    },
  );

  test('another one is refused for resume, another spelling is not; init takes it', async () => {
    const first = join(folder, 'v');
    const v = set('objective.formulation=rf/lognorm(0.50,1)');
    await ends(launch(first, 1, ...short, ...v), 0);
    const { output } = await ends(launch(first, 1, ...short, ...set('objective.formulation=rf')), 1);
    expect(output).toContain(
      'objective.formulation was "rf/lognorm(0.5,1)" at step 4 and is "rf" now (--set objective.formulation=rf); it cannot change within a run',
    );
    const again = await ends(
      launch(first, 1, ...short, ...set('objective.formulation=rf/lognorm(+.5,1.0)')),
      0,
    );
    expect(again.output).not.toContain('objective.formulation');
    const other = join(folder, 'from-v');
    const taken = await ends(
      launch(other, 1, ...short, ...set('objective.formulation=v/cos', `init=${first}`)),
      0,
    );
    expect(taken.output).toContain(
      'the weights of init were trained on rf/lognorm(0.5,1); this run trains v/cos',
    );
    expect(existsSync(join(other, 'checkpoints', 'step-00000004'))).toBe(true);
  });
});

test('checkpoint.keep_best keeps the step of the lowest validation loss, also over a resume', async () => {
  const runDir = join(folder, 'best');
  // At such a rate the loss soon rises.
  const keys = set('optimizer.lr=0.1', 'schedule.warmup=0', 'schedule.decay=constant', 'ema.decay=0');
  const flags = [...keys, ...set('validation.every=2', 'checkpoint={every: 1, keep: 1, keep_best: true}')];
  const first = await ends(launch(runDir, 1, ...flags, ...set('schedule.steps=6')), 0);
  expect(first.output).toMatch(/^step 2 has the lowest validation loss of the EMA so far$/m);
  await ends(launch(runDir, 1, ...flags, ...set('schedule.steps=10')), 0);
  const written = readLines(join(runDir, 'metrics.jsonl'))
    .filter(({ type }) => type === 'checkpoint')
    .map(({ step }) => step as number);
  const candidates = validationsOf(runDir).filter(({ step }) => step < 10 && written.includes(step));
  const best = candidates.reduce((least, next) => (next.val_ema < least.val_ema ? next : least));
  expect(best.step).toBeLessThan(9);
  const kept = await listCheckpoints(join(runDir, 'checkpoints'));
  expect(kept.map(({ step }) => step)).toEqual([10, best.step]);
});
