import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { parseConfig } from '../../../src/config/load.js';
import { describeDataset } from '../../../src/data/dataset.js';
import { openSource } from '../../../src/data/formats.js';
import { newDataSection, yamlText } from '../../../src/data/new-config.js';

function configFor(path: string, replacements: Record<string, string> = {}) {
  const { lines, notes } = newDataSection(openSource(path));
  const text = Object.entries(replacements).reduce(
    (before, [from, to]) => before.replace(from, to),
    ['name: x', ...lines].join('\n'),
  );
  return { data: parseConfig(text, 'new').data, notes };
}

describe('newDataSection', () => {
  test('tells the columns of a set with the usual names, which then opens', () => {
    const { data, notes } = configFor('test/fixtures/huggingface/nested');
    expect(notes).toEqual([]);
    expect(data.columns).toMatchObject({
      id: 'id',
      latent: 'latent',
      original: {
        clip_l: 'clip_l',
        clip_l_pooled: 'clip_l_pooled',
        clip_g_pooled: 'clip_g_pooled',
        t5: 't5',
      },
      synthetic: null,
    });
    expect(data.validation_rows).toBe(2);
    expect(describeDataset(data)).toMatchObject({ latent: [16, 8, 8], text: { t5Tokens: 8, t5Dim: 160 } });
  });

  test('guesses the shapes of flat lists, and says what must be checked or filled in', () => {
    const { data, notes } = configFor('test/fixtures/huggingface/fixed', { '[TOKENS, WIDTH]': '[8, 160]' });
    expect(notes.join()).toMatch(/check data\.latent_shape.*check data\.text_shape/);
    expect(data.latent_shape).toEqual([16, 8, 8]);
    expect(data.text_shape).toEqual({ clip_l: [8, 48], clip_g: [8, 80], t5: [8, 160] });
    expect(describeDataset(data).text).toMatchObject({ clipTokens: 8, clipGDim: 80 });
  });

  test('tells joined features, bits of bfloat16, and means with log-variances', () => {
    const { data } = configFor('test/fixtures/prepared');
    expect(data).toMatchObject({
      columns: { latent: 'moments', original: { context: 'prompt_embeds', pooled: 'pooled_prompt_embeds' } },
      latent_form: 'mean_logvar',
      bfloat16: ['prompt_embeds'],
    });
  });

  test('asks for columns that it cannot tell', () => {
    const source = openSource('test/fixtures/huggingface/nested');
    const columns = source.columns.map((column) =>
      column.name === 't5' ? { ...column, name: 'third' } : column,
    );
    const parts = (name: string, reading = {}) => source.parts(name === 'third' ? 't5' : name, reading);
    const { lines, notes } = newDataSection({ ...source, columns, parts });
    expect(lines.join('\n')).toContain('t5: COLUMN}');
    expect(notes[0]).toMatch(/^Some columns could not be told: put one of id, .*, third where COLUMN is$/);
  });
});

test.each(['2024', '1e5', '0x10', '.5', 'null', 'true', '~', 'a b', 'a: b', '-x', '[x]', 'latent', '~/data'])(
  'a name as YAML is read as this name: %s',
  (name) => {
    expect(parse(`{key: ${yamlText(name)}, list: [${yamlText(name)}]}`)).toEqual({ key: name, list: [name] });
  },
);
