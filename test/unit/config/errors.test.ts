import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/load.js';
import { FORMULATION_FORMS } from '../../../src/objective/names.js';
import { MINIMAL, problems, yaml } from '../../support/config.js';

describe('errors of a configuration', () => {
  test('name the place, the key, the expectation and the value', () => {
    expect(problems(`${MINIMAL}batch:\n  micro: eight\n`)).toEqual([
      'FILE:4:10: batch.micro: expected an integer of at least 1, received "eight"',
    ]);
  });

  test.each([
    ['threads: 0', 'threads: expected an integer from 1 to 4096, or null, received 0'],
    [
      'model: {hidden: 100}',
      'model.hidden: expected an integer, a multiple of 64, from 64 to 65536, received 100; did you mean 128',
    ],
    ['model: {qk_norm: [rms]}', 'model.qk_norm: expected one of none, rms, received ["rms"]'],
    ['model: {qk_norm: rmss}', 'model.qk_norm: expected one of none, rms, received "rmss"; did you mean rms'],
    [
      'optimizer: {betas: [0.9, 1]}',
      'optimizer.betas[1]: expected a number of at least 0 and less than 1, received 1',
    ],
    [
      'optimizer: {betas: 0.9}',
      'optimizer.betas: expected a list of 2, each a number of at least 0 and less than 1, received 0.9',
    ],
    ['objective: {shift: 0}', 'objective.shift: expected a number greater than 0, received 0'],
    [
      'objective: {formulation: rf, density: "lognorm(0.50, 1)"}',
      'objective.density: the density is part of objective.formulation; write instead of both: formulation: "rf/lognorm(0.5,1)"',
    ],
    [
      'objective: {density: uniform}',
      'objective.density: the density is part of objective.formulation; write instead of both: formulation: "rf"',
    ],
    [
      'objective: {density: normal}',
      'objective.density: the density is part of objective.formulation; write instead of both, for example: formulation: "rf/lognorm(0,1)"',
    ],
    [
      'objective: {formulation: v_prediction}',
      `objective.formulation: expected ${FORMULATION_FORMS}, received "v_prediction"; did you mean v/linear`,
    ],
    ['ema: yes please', 'ema: expected a mapping with decay, every, warmup, or null, received "yes please"'],
    [
      'exchange: nccl',
      'exchange: expected auto, shared or grpc, because device is cpu and NCCL connects GPUs, received nccl',
    ],
    ['seed: 1e22', 'seed: expected an integer of at least 0, and at most 9007199254740991, received 1e+22'],
    [
      'telemetry: {metrics_port: 70000}',
      'telemetry.metrics_port: expected an integer from 0 to 65535, or null, received 70000',
    ],
    [
      'validation: {weights: []}',
      'validation.weights: expected a non-empty list, each one of ema, master, or null, received []',
    ],
  ])('%s', (line, expected) => {
    const [only, ...others] = problems(`${MINIMAL}${line}\n`);
    expect(others).toEqual([]);
    expect(only!.replace(/^FILE:3:\d+: /, '')).toBe(expected);
  });

  test('points an unknown key out at the key, with the nearest name', () => {
    const [line] = problems(`${MINIMAL}model:\n  depth: 2\n  hiden: 64\n`);
    expect(line).toMatch(
      /^FILE:5:3: model\.hiden: unknown key; expected one of backbone, depth, hidden, .*; did you mean hidden$/,
    );
  });

  test('finds the mapping of a key that stands in the wrong place', () => {
    expect(problems(`${MINIMAL}lr: 0.1\n`)[0]).toMatch(
      /^FILE:3:1: lr: unknown key; .*; did you mean optimizer\.lr$/,
    );
  });

  test('suggests nothing where nothing is near', () => {
    expect(problems(`${MINIMAL}zzzzzz: 0.1\n`)[0]).not.toContain('did you mean');
  });

  test('does not take a name from the prototype for a key', () => {
    expect(problems(`${MINIMAL}constructor: 1\n__proto__: {seed: 3}\n`)).toEqual([
      expect.stringMatching(/^FILE:3:1: constructor: unknown key/),
      expect.stringMatching(/^FILE:4:1: __proto__: unknown key/),
    ]);
  });

  test('reports a missing key at the mapping that lacks it', () => {
    expect(problems('name: x\ndata:\n  validation_rows: 4\n')).toEqual([
      'FILE:2:1: data.path: expected a non-empty string, received nothing',
    ]);
    expect(problems('')).toHaveLength(2);
  });

  test('reports keys given twice, with the place of the first', () => {
    expect(problems(`${MINIMAL}seed: 1\nmodel:\n  depth: 1\n  hidden: 64\n  depth: 2\nseed: 2\n`)).toEqual([
      'FILE:7:3: depth: this key is given twice, first at FILE:5:3',
      'FILE:8:1: seed: this key is given twice, first at FILE:3:1',
    ]);
  });

  describe('on text that is not YAML, report the first fault in its line, and no key that is missing for it', () => {
    test.each([
      [
        'name: x\ndata:\n  path: d\n   validation_rows: 4\nseed: 1\n',
        '4:4: not readable as YAML: this line is indented below a line that has a value already; check the indentation',
      ],
      [
        'name: x\nmodel:\n  depth: 2\n    hidden: 64\n',
        '4:5: not readable as YAML: this line is indented below a line that has a value already; check the indentation',
      ],
      [
        'name: x\ndata:\n  path: d\n validation_rows: 4\n',
        '4:2: not readable as YAML: this line is not in the column of its neighbours; check the indentation',
      ],
      [
        'name: x\ndata:\n\tpath: d\n',
        '3:1: not readable as YAML: lines are indented with spaces, not with tabs',
      ],
      [
        'name: x\nseed:1\nmodel: {depth: 2}\n',
        '2:1: not readable as YAML: expected "key: value", with a space after the colon',
      ],
      [
        'name: x\n- seed\n',
        '2:1: not readable as YAML: expected "key: value", with a space after the colon, found an item of a list',
      ],
      ['name: x: y\n', '1:7: not readable as YAML: a value with ": " in it must be in quotes'],
      ['name: [x\n', '1:8: not readable as YAML: a "[" or "{" is not closed'],
      ['name: x\ndata: {path: d\nseed: 1\n', '2:14: not readable as YAML: a "[" or "{" is not closed'],
      ['name: "x\ndata: {path: d}\n', '2:15: not readable as YAML: Missing closing "quote'],
      ['- name\n', '1:1: expected a mapping of keys to values'],
    ])('%j', (text, expected) => {
      expect(problems(text)).toEqual([`FILE:${expected}`]);
    });

    test('several documents', () => {
      expect(problems('name: x\n---\nname: y\n')).toEqual([
        expect.stringMatching(/expected one YAML document, received several/),
      ]);
    });

    test('with the line, and a caret below the place', () => {
      const path = yaml('name: x\ndata:\n\tpath: \u0007d\n');
      expect(() => loadConfig(path, [], {})).toThrow(
        /spaces, not with tabs\n {2}3 \| {2}path: \?d\n {4}\| \^$/,
      );
    });
  });

  describe('say what to write', () => {
    test.each([
      [
        'objective: {density: lognorm}',
        'objective.density: the density is part of objective.formulation; write instead of both, for example: formulation: "rf/lognorm(0,1)"',
      ],
      [
        'ema: false',
        'ema: expected a mapping with decay, every, warmup, or null, received false; write null',
      ],
      [
        'precision: bf16',
        'precision: expected a mapping with compute, residual, linear, received "bf16"; did you mean precision.compute: bf16',
      ],
      [
        'schedule: steps:10',
        'schedule: expected a mapping with steps, warmup, decay, final, received "steps:10"; write "steps: 10", with a space after the colon',
      ],
      ['device: gpu', 'device: expected one of cpu, cuda, received "gpu"; did you mean cuda'],
      [
        'activation_checkpointing: true',
        'activation_checkpointing: expected one of nothing, norms, mlp, block, received true; did you mean block',
      ],
      [
        'schedule: {steps: 10_000}',
        'schedule.steps: expected an integer of at least 1, received "10_000"; write 10000',
      ],
      [
        'optimizer: {lr: "1e-4"}',
        'optimizer.lr: expected a number of at least 0, received "1e-4"; write 0.0001',
      ],
      ['ema: {warmup: yes}', 'ema.warmup: expected true or false, received "yes"; write true'],
      [
        'init: 42',
        'init: expected a non-empty string, or null, received 42; put it in quotes to make it a string',
      ],
      ['learning_rate: 1e-4', 'learning_rate: unknown key; here it is optimizer.lr'],
      ['optimizer: {learning-rate: 1e-4}', 'optimizer.learning-rate: unknown key; here it is optimizer.lr'],
      [
        'output_dir: out',
        'output_dir: unknown key; here it is the option --run-dir of `orchestrator launch`',
      ],
      [
        'batch_size: 8',
        'batch_size: unknown key; here it is batch.global (the samples of a whole step, on all workers; batch.micro are those computed together)',
      ],
      [
        'gradient_accumulation_steps: 4',
        'gradient_accumulation_steps: unknown key; here it is batch.accumulate (micro-batches of a slot; batch.global is their number x batch.micro x the slots that the workers share)',
      ],
    ])('%s', (line, expected) => {
      expect(problems(`${MINIMAL}${line}\n`).map((text) => text.replace(/^FILE:3:\d+: /, ''))).toEqual([
        expected,
      ]);
    });

    test('in a shell, too', () => {
      expect(problems(MINIMAL, ['name=42'])).toEqual([
        expect.stringContaining(
          `received 42; put it in quotes to make it a string, and once more for the shell: 'name="42"'`,
        ),
      ]);
    });
  });

  test('reports everything at once, in the order of the file', () => {
    const lines = problems(
      [
        'name: a b',
        'data: {path: 3}',
        'batch: {global: 65, micro: 32}',
        'model: {depth: 2, dual_attention: [2], hidden: 100}',
        'schedule: {steps: 10, warmup: 11, wrmup: 1}',
      ].join('\n'),
    );
    expect(lines.map((line) => line.split(': ').slice(0, 2).join(': '))).toEqual([
      'FILE:1:7: name',
      'FILE:2:14: data.path',
      'FILE:3:17: batch.global',
      'FILE:4:35: model.dual_attention',
      'FILE:4:48: model.hidden',
      'FILE:5:31: schedule.warmup',
      'FILE:5:35: schedule.wrmup',
    ]);
  });

  test('names the nearest file where there is none', () => {
    const near = yaml(MINIMAL);
    expect(() => loadConfig(near.replace(/\.yaml$/, '.yml'), [], {})).toThrow(
      `it does not exist (ENOENT); did you mean ${near}`,
    );
  });
});

describe('rules between keys', () => {
  test.each([
    ['batch: {global: 65, micro: 32}', 'batch.global: expected a multiple of batch.micro (32), received 65'],
    [
      'batch: {global: 96, micro: 32, accumulate: 2}',
      'batch.global: expected a multiple of batch.micro x batch.accumulate (32 x 2), received 96',
    ],
    [
      'schedule: {steps: 10, warmup: 11}',
      'schedule.warmup: expected at most schedule.steps (10), received 11; lower schedule.warmup, or train for more steps',
    ],
    [
      'model: {depth: 2, dual_attention: [0, 2]}',
      'model.dual_attention: expected indices below model.depth (2), received 2',
    ],
    [
      'model: {depth: 2, dual_attention: [1, 1]}',
      'model.dual_attention: expected each index once, received 1 twice',
    ],
    [
      'objective: {formulation: "rf/lognorm(0, 0)"}',
      'objective.formulation: expected s of rf/lognorm(m,s) to be greater than 0, received rf/lognorm(0,0)',
    ],
    [
      'objective: {formulation: rf/mode(1.76)}',
      'objective.formulation: expected s of rf/mode(s) to be from -1 to 1.7519, received rf/mode(1.76)',
    ],
    [
      'data: {path: d, latent_shape: [4, 8, 8]}\nmodel: {latent_channels: 16}',
      'model.latent_channels: expected 4, the channels of data.latent_shape, or null; received 16',
    ],
    [
      'data: {path: d, latent_shape: [16, 8, 9]}',
      'data.latent_shape: expected a height and width divisible by model.patch (2), received 8 x 9',
    ],
    [
      'data: {path: d, latent_shape: [16, 8, 34]}\nmodel: {pos_embed_max_size: 16}',
      'data.latent_shape: expected a height and width of at most 32 (model.pos_embed_max_size * model.patch), received 8 x 34',
    ],
    [
      'data: {path: d, text_shape: {clip_l: [8, 48], clip_g: [9, 80], t5: [8, 160]}}',
      'data.text_shape.clip_g: expected as many tokens as clip_l (8), received 9',
    ],
    [
      'data: {path: d, text_shape: {clip_l: [8, 48], clip_g: [8, 80], t5: [8, 100]}}',
      'data.text_shape.t5: expected a width of at least 128, those of clip_l and clip_g together, received 100',
    ],
    [
      'ema: null\nvalidation: {weights: [ema]}',
      'validation.weights: expected [master] or null, because ema is null, received ema',
    ],
    [
      'data: {path: d, columns: {latent: z, original: {clip_l: a, t5: b}}}',
      'data.columns: expected clip_l, clip_l_pooled, clip_g, clip_g_pooled, t5, or context and pooled for original, received clip_l, t5',
    ],
    [
      'data: {path: d, columns: {latent: z, original: {context: a, pooled: b}, synthetic: {context: a, t5: b}}}',
      'data.columns: expected clip_l, clip_l_pooled, clip_g, clip_g_pooled, t5, or context and pooled for synthetic, received t5, context',
    ],
    [
      'data: {path: d, columns: {latent: z, original: {}}}',
      'data.columns: expected columns for original, received none',
    ],
    [
      'data: {path: d, columns: {latent: z, latent_logvar: v, original: {context: a, pooled: b}}}',
      'data.columns.latent_logvar: expected null, because data.latent_form is value, received v',
    ],
    [
      'freeze: [context_embeder.weight]',
      'freeze: expected patterns of parameter names (* = any characters), received context_embeder.weight, which matches none; did you mean context_embedder.weight',
    ],
    [
      // The blocks that do not exist are not looked up.
      'model: {depth: 2, dual_attention: [0, 2]}\nfreeze: ["joint_blocks.0.x_block.attn2.*"]',
      'model.dual_attention: expected indices below model.depth (2), received 2',
    ],
    [
      'precision: {linear: fp8}',
      'precision.linear: expected compute, because device is cpu and fp8 matmuls are computed by GPUs, received fp8',
    ],
    [
      'device: cuda\nprecision: {compute: fp32, linear: fp8}',
      'precision.linear: expected compute, because precision.compute is fp32 and fp8 needs bf16, received fp8',
    ],
    [
      'checkpoint: {every: 200, keep_every: 300}',
      'checkpoint.keep_every: expected a multiple of checkpoint.every (200), received 300',
    ],
    [
      'checkpoint: {every: 200, keep_best: true}\nvalidation: {every: 300}',
      'checkpoint.keep_best: expected false, or a validation.every (300) that is a multiple of checkpoint.every (200), so that every validated step has a checkpoint, received true',
    ],
    [
      'checkpoint: {keep_best: true}\nema: null',
      'checkpoint.keep_best: expected false, because the EMA is not validated (ema, validation.every, validation.weights, data.validation_rows), received true',
    ],
    [
      'checkpoint: {every: 0, keep_every: 300}',
      'checkpoint.keep_every: expected 0, because checkpoint.every is 0, received 300',
    ],
    ['validation: {weights: [ema, ema]}', 'validation.weights: expected each once, received ema, ema'],
  ])('%s', (line, expected) => {
    const text = line.startsWith('data:') ? `name: x\n${line}\n` : `${MINIMAL}${line}\n`;
    expect(problems(text).map((problem) => problem.replace(/^FILE:\d+:\d+: /, ''))).toEqual([expected]);
  });

  test('are not applied to values that are wrong by themselves', () => {
    expect(problems(`${MINIMAL}batch: {global: 65, micro: 0}\n`)).toHaveLength(1);
  });
});
