/** The validations that a run has recorded. */
import { join } from 'node:path';
import { z } from 'zod';
import { leadingLines } from '../files/jsonl.js';

const losses = z.object({
  mean: z.number(),
  /** By log-SNR; absent in runs of earlier versions. */
  epsilon_error: z.record(z.string(), z.number()).default({}),
});

const validation = z.object({
  type: z.literal('validation'),
  step: z.number(),
  ema: losses.optional(),
  master: losses.optional(),
});

export type Validation = z.infer<typeof validation>;

/** In ascending order of steps; none if the run has not validated. */
export function validationsOf(runDir: string): Validation[] {
  const found: Validation[] = [];
  leadingLines(join(runDir, 'metrics.jsonl'), (line) => {
    const parsed = validation.safeParse(line);
    if (parsed.success) found.push(parsed.data);
    return true;
  });
  return found;
}
