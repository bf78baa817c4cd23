/**
 * Writes checkpoints of a small model with the compiled program, until it is killed or has written as many as asked.
 * Usage: node checkpoint-writer.mjs RUN_DIR COUNT. Prints "ready", and "saved STEP" after each; errors as JSON.
 * Every array of a checkpoint is filled with one number, a function of step and variant (see the test).
 */
import { join } from 'node:path';
import { listCheckpoints, recoverStore, retainCheckpoints } from '../../dist/checkpoint/retention.js';
import { saveCheckpoint } from '../../dist/checkpoint/store.js';
import { expectedParameters } from '../../dist/model/tensors.js';

const [runDir, count] = process.argv.slice(2);
const root = join(runDir, 'checkpoints');
const modelSpec = {
  depth: 2,
  heads: 1,
  patch: 2,
  latentChannels: 4,
  contextDim: 24,
  pooledDim: 12,
  posEmbedMaxSize: 4,
  qkNorm: 'rms',
  dualAttention: [0],
};
let length = 0;
const tensors = expectedParameters(modelSpec).map(({ name, shape }) => {
  const elements = shape.reduce((product, side) => product * side, 1);
  const tensor = { name, shape, offset: length, length: elements };
  length += Math.ceil(elements / 16) * 16;
  return tensor;
});
const layout = { length, tensors, parameters: tensors.reduce((sum, tensor) => sum + tensor.length, 0) };
const text = {
  clipTokens: 8,
  t5Tokens: 8,
  clipLDim: 8,
  clipGDim: 16,
  t5Dim: 24,
  clipLPooledDim: 4,
  clipGPooledDim: 8,
};

function content(step, variant) {
  const fill = (part) => new Float32Array(length).fill(step * 64 + variant * 8 + part);
  return {
    layout,
    state: new Map(['master', 'ema', 'm', 'v'].map((name, part) => [name, fill(part)])),
    posEmbed: new Float32Array(16 * 64).fill(step),
    metadata: {
      step,
      planState: { version: 1, variant },
      datasetHash: 'a'.repeat(64),
      configJson: '{"name":"faults"}',
      modelSpec,
      latent: [4, 8, 8],
      text,
      encoders: null,
      versions: { orchestrator: 'test' },
    },
  };
}

try {
  await recoverStore(root);
  let step = (await listCheckpoints(root))[0]?.step ?? 0;
  console.log('ready');
  for (let i = 0; i < Number(count); i++) {
    step++;
    const { path } = await saveCheckpoint(root, content(step, 0));
    // Now and then a step is written again, as by a run that was resumed from an earlier one.
    if (step % 3 === 0) await saveCheckpoint(root, content(step, 1));
    console.log(`saved ${step}`);
    await retainCheckpoints(root, 2, path);
  }
} catch (error) {
  console.log(JSON.stringify({ code: error.code, message: error.message, hint: error.hint }));
  process.exitCode = 1;
}
