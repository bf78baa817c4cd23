/**
 * Writes checkpoints of a small model with the compiled program, until it is killed or has written as many as
 * asked. Usage: node checkpoint-writer.mjs RUN_DIR COUNT CONTENT, the latter JSON with a layout and metadata.
 * Prints "ready", and "saved STEP" after each; errors as JSON. Every array of a checkpoint is filled with one
 * number, a function of step and variant (see the test).
 */
import { join } from 'node:path';
import { listCheckpoints, recoverStore, retainCheckpoints } from '../../dist/checkpoint/retention.js';
import { publishCheckpoint, stageCheckpoint } from '../../dist/checkpoint/store.js';

const [runDir, count, json] = process.argv.slice(2);
const root = join(runDir, 'checkpoints');
const { layout, metadata } = JSON.parse(json);

function content(step, variant) {
  const lengths = new Map(layout.tensors.map(({ name, length }) => [name, length]));
  const fill = (part) => (tensor) =>
    new Float32Array(lengths.get(tensor)).fill(step * 64 + variant * 8 + part);
  return {
    layout,
    state: new Map(['master', 'ema', 'm', 'v'].map((name, part) => [name, fill(part)])),
    posEmbed: new Float32Array(layout.posEmbed.shape.reduce((product, side) => product * side)).fill(step),
    metadata: { ...metadata, step, planState: { version: 1, variant } },
  };
}

async function save(step, variant) {
  const { folder } = await stageCheckpoint(root, content(step, variant));
  await publishCheckpoint(root, folder);
}

try {
  await recoverStore(root);
  let step = (await listCheckpoints(root))[0]?.step ?? 0;
  console.log('ready');
  for (let i = 0; i < Number(count); i++) {
    step++;
    await save(step, 0);
    // Now and then a step is written again, as by a run that was resumed from an earlier one.
    if (step % 3 === 0) await save(step, 1);
    console.log(`saved ${step}`);
    await retainCheckpoints(root, { keep: 2, keepEvery: 0 }, step);
  }
} catch (error) {
  console.log(JSON.stringify({ code: error.code, message: error.message, hint: error.hint }));
  process.exitCode = 1;
}
