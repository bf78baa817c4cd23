/** Generates the pages of the files that users write, and their JSON Schemas, from the schemas. */
import { defaultOf, expectation, jsonSchema, type SchemaNode, unwrapNull } from '../config/describe.js';
import { studyJsonSchema } from '../study/spec.js';
import { code, page, table } from './markdown.js';

const INTRODUCTION = `A run is described by one YAML file. A value is taken from the first of these that sets it: the flag \`--set key=value\` (the value is YAML; repeatable),
the environment variable \`ORCHESTRATOR_KEY\` (a dot becomes two underscores: \`ORCHESTRATOR_BATCH__MICRO=8\`), the file, the default.
\`orchestrator config show CONFIG\` prints every effective value and where it came from. An unknown key is an error.

With \`# yaml-language-server: $schema=schema.json\` as its first line, editors complete and check a file under \`configs/\`.`;

export function configSchemaJson(): string {
  const title = 'Configuration of an orchestrator run';
  return `${JSON.stringify({ title, ...jsonSchema() }, null, 2)}\n`;
}

export function configPage(): string {
  const keys = table(['key', 'expects', 'default', 'meaning'], rowsOf(jsonSchema(), ''));
  return page('Configuration', 'src/config/schema.ts', INTRODUCTION, keys);
}

export function studySchemaJson(): string {
  return `${JSON.stringify({ title: 'A study of orchestrator', ...studyJsonSchema() }, null, 2)}\n`;
}

const STUDY_INTRODUCTION = `A study is described by one YAML file, which \`orchestrator study run FILE\` reads ([Studies](../guide/studies.md)). An unknown key is an error.

With \`# yaml-language-server: $schema=schema.json\` as its first line, editors complete and check a file under \`configs/studies/\`.`;

export function studyPage(): string {
  const keys = table(['key', 'expects', 'default', 'meaning'], rowsOf(studyJsonSchema(), ''));
  return page('Studies', 'src/study/schema.ts', STUDY_INTRODUCTION, keys);
}

function rowsOf(mapping: SchemaNode, prefix: string): string[][] {
  return Object.entries(mapping.properties ?? {}).flatMap(([name, child]) => {
    const { node, nullable } = unwrapNull(child);
    const isMapping = node.properties !== undefined;
    const expects = isMapping ? `mapping${nullable ? ', or null' : ''}` : expectation(child);
    const text = defaultOf(child);
    const given = mapping.required?.includes(name) ? 'required' : text === null ? 'see below' : code(text);
    const row = [code(prefix + name), expects, given, child.description ?? ''];
    const inner = isMapping ? node : node.items || node.additionalProperties || {};
    const below = isMapping ? '.' : node.items ? '[].' : '.NAME.';
    return [row, ...rowsOf(inner, `${prefix}${name}${below}`)];
  });
}
