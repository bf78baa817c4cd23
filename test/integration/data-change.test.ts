/**
 * A data set that is corrected and extended while a run stands still: the run goes on with new segments of the sample
 * plan if it may, with the same bits on any number of workers and after a kill.
 */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.js';
import { openDataset } from '../../src/data/dataset.js';
import { SamplePlan } from '../../src/step/plan.js';
import { segmentsSchema } from '../../src/step/segment.js';
import { temporaryFolder } from '../support/folders.js';
import { ends, fingerprint, Launched, launch, readLines, TRAINING } from '../support/launched.js';
import { orchestrator, succeeds } from '../support/program.js';

const folder = temporaryFolder();
const FIXTURE = 'test/fixtures/huggingface/fixed';
const FILES = ['data-00000-of-00002.arrow', 'data-00001-of-00002.arrow'];
/** Rows of the fixture, and of its first file, which the extended set has twice. */
const [ROWS, ADDED] = [48, 24];
/** Steps of the run with the data as they were, after they were corrected, and after they were extended. */
const [FIRST, CORRECTED, LAST] = [4, 8, 13];
const ALLOW = '--allow-data-change';

/** Folders of the same data set over time. */
const data = { damaged: FIXTURE, corrected: FIXTURE, extended: FIXTURE, fewer: FIXTURE };

function listing(name: string, files: readonly string[]): string {
  const path = join(folder, name);
  cpSync(FIXTURE, path, { recursive: true });
  const state = JSON.parse(readFileSync(join(path, 'state.json'), 'utf8'));
  const _data_files = files.map((filename) => ({ filename }));
  writeFileSync(join(path, 'state.json'), JSON.stringify({ ...state, _data_files }));
  return path;
}

beforeAll(async () => {
  const { spec } = await openDataset(loadConfig(TRAINING, []).data);
  const { segments, rowBytes } = spec.columns.find(({ role }) => role === 'latent')!;
  data.damaged = listing('damaged', FILES);
  const file = join(data.damaged, FILES[0]!);
  const bytes = readFileSync(file);
  // A NaN as float16, in row 3.
  bytes.writeUInt16LE(0x7e00, segments[3]! + 3 * rowBytes);
  writeFileSync(file, bytes);
  data.extended = listing('extended', [...FILES, 'more.arrow']);
  cpSync(join(FIXTURE, FILES[0]!), join(data.extended, 'more.arrow'));
  data.fewer = listing('fewer', [FILES[1]!, FILES[0]!]);
});

const set = (...keys: string[]) => keys.flatMap((key) => ['--set', key]);
const flags = (path: string, steps: number) =>
  set(
    ...[`data.path=${path}`, 'data.on_non_finite=skip', `schedule.steps=${steps}`, 'schedule.decay=constant'],
    ...['checkpoint.every=2', 'checkpoint.keep=9', 'validation.every=4'],
  );

const checkpointOf = (runDir: string, step: number) => join(runDir, 'checkpoints', `step-0000000${step}`);
const undisturbed = join(folder, 'undisturbed');
let reference: Record<string, unknown>;

test('refused without the option, with what differs; goes on with it, and says what follows', async () => {
  const runDir = undisturbed;
  await ends(launch(runDir, 1, ...flags(data.damaged, FIRST)), 0);

  // That the dry run refuses what the launch refuses is tested in refusals.test.ts.
  const other = await ends(launch(runDir, 1, ...flags(data.corrected, CORRECTED)), 1);
  expect(other.output).toMatch(
    /^error ERR_CHECKPOINT_MISMATCH: .*step-00000004 belongs to another data set than that of data\.path: it has 48 rows as before, with other values or element types \(hash [0-9a-f]{12}, now [0-9a-f]{12}\)\nhint: .*go on with --allow-data-change: a new segment of the sample plan then begins at step 5/m,
  );
  const dry = await ends(launch(runDir, 1, ...flags(data.corrected, CORRECTED), ALLOW, '--dry-run'), 0);
  expect(dry.output).toMatch(/^steps +8 = 160 samples; 5 to 8 remain, 2\.00 epochs of the changed data$/m);
  expect(dry.output).toContain('coordinator test/integration/training.yaml');
  expect(dry.output).toContain(` ${ALLOW} `);
  const corrected = await ends(launch(runDir, 1, ...flags(data.corrected, CORRECTED), ALLOW), 0);
  for (const { output } of [dry, corrected]) {
    expect(output).toMatch(/^.*the data set has changed: it has 48 rows as before.*begins at step 5/m);
    expect(output).toMatch(
      /^warn the 8 rows held out for validation keep their numbers: if rows have changed/m,
    );
  }

  const refused = await ends(launch(runDir, 1, ...flags(data.extended, LAST)), 1);
  expect(refused.output).toContain(
    `: it was extended from ${ROWS} to ${ROWS + ADDED} rows, and the first ${ROWS} are the same (hash `,
  );
  const extended = await ends(launch(runDir, 1, ...flags(data.extended, LAST), ALLOW), 0);
  expect(extended.output).toContain('the rows held out for validation stay the same, all among the first 48');
  expect(extended.output).not.toMatch(/^warn the 8 rows held out/m);

  // Nothing has changed since: the option means nothing, and the plan goes on.
  const same = await ends(launch(runDir, 1, ...flags(data.extended, LAST + 1), ALLOW, '--dry-run'), 0);
  expect(same.output).toContain(`${ALLOW}: the data set is that of step ${LAST}; the plan goes on`);
  reference = fingerprint(runDir, LAST);
});

test('the ledger of earlier steps stays, and every step has the rows of its segment', () => {
  const plan = readLines(join(undisturbed, 'journal.jsonl')).findLast(({ segments }) => segments)!;
  const segments = segmentsSchema.parse(plan.segments);
  expect(segments.map(({ firstStep, rows, seed }) => [firstStep, rows, seed])).toEqual([
    [1, ROWS, 7],
    [FIRST + 1, ROWS, 7],
    [CORRECTED + 1, ROWS + ADDED, 7],
  ]);
  const rows = succeeds(orchestrator('rows', undisturbed, `1-${LAST}`, '--json'));
  const ledger = JSON.parse(rows) as { step: number; slots: number[][]; recorded: boolean }[];
  expect(ledger.map(({ step }) => step)).toEqual(Array.from({ length: LAST }, (_, i) => i + 1));
  const samples = new SamplePlan(segments);
  for (const { step, slots, recorded } of ledger) {
    expect(recorded, `step ${step} has the digest in the ledger`).toBe(true);
    expect(slots.flat()).toEqual([...samples.samples(step, 20, 0, 20).rows]);
  }
  // What was held out at first was never trained on, and of the new rows some were.
  const held = new Set(new SamplePlan(segments.slice(0, 1)).validation);
  const trained = ledger.flatMap(({ slots }) => slots.flat());
  expect(trained.filter((row) => held.has(row))).toEqual([]);
  expect(trained.some((row) => row >= ROWS)).toBe(true);

  const inspected = succeeds(orchestrator('checkpoint', 'inspect', checkpointOf(undisturbed, 6)));
  expect(inspected).toMatch(/^segment 1 +steps 1 to 4, 48 rows, data set [0-9a-f]{64}$/m);
  expect(inspected).toMatch(/^segment 2 +steps 5 to 6, 48 rows, data set [0-9a-f]{64}$/m);
});

test('from an earlier checkpoint, which drops the segments after it, resumed and killed: the same bits', async () => {
  const runDir = join(folder, 'disturbed');
  cpSync(undisturbed, runDir, { recursive: true });
  const from = ['--resume', checkpointOf(runDir, 2)];
  await ends(launch(runDir, 2, ...flags(data.damaged, FIRST), ...from), 0);
  expect(succeeds(orchestrator('checkpoint', 'inspect', runDir))).not.toContain('segment');
  expect(readLines(join(runDir, 'ledger.jsonl'))).toHaveLength(FIRST);
  await ends(launch(runDir, 3, ...flags(data.corrected, 6), ALLOW), 0);
  // Within the second segment the option is no longer needed.
  await ends(launch(runDir, 1, ...flags(data.corrected, CORRECTED)), 0);
  // Killed within the third.
  const killed = new Launched(runDir, 2, ...flags(data.extended, 100), ALLOW, '--max-restarts', '0');
  await killed.says('checkpoint of step 10');
  process.kill(killed.coordinator(), 'SIGKILL');
  await killed.outcome;
  await ends(launch(runDir, 1, ...flags(data.extended, LAST)), 0);
  // It was validated at step 6, too, where it ended for a while.
  const { validation, ...bits } = fingerprint(runDir, LAST);
  const others = (validation as { step: number }[]).filter(({ step }) => step !== 6);
  expect({ ...bits, validation: others }).toEqual(reference);
});

test('with fewer rows others are held out, with a warning; with former data the same ones', async () => {
  const fewer = await ends(launch(undisturbed, 1, ...flags(data.fewer, 20), ALLOW, '--dry-run'), 0);
  expect(fewer.output).toContain(
    `the data set has changed: it had ${ROWS + ADDED} rows and has ${ROWS}. A new`,
  );
  expect(fewer.output).toMatch(
    /^warn the 8 rows held out for validation are drawn again, because rows have gone: some were trained on before step 14/m,
  );
  const former = await ends(launch(undisturbed, 1, ...flags(data.corrected, 20), ALLOW, '--dry-run'), 0);
  expect(former.output).toContain(
    `the data set has changed: it is that of step 5 again, with ${ROWS} rows. A new`,
  );
  expect(former.output).not.toMatch(/^warn .*held out for validation (keep|are drawn)/m);
});

test('other shapes are refused even so', async () => {
  const other = set('data.latent_shape=[4, 16, 16]');
  const { output } = await ends(launch(undisturbed, 1, ...flags(data.extended, 20), ALLOW, ...other), 1);
  expect(output).toMatch(
    /ERR_CHECKPOINT_MISMATCH: .* another data set, of other shapes: shape of the latents 16 x 8 x 8, now 4 x 16 x 16/,
  );
});
