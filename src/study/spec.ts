/** Reads the file of a study; problems are reported together, each with its place. */
import { readFileSync } from 'node:fs';
import { LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import {
  expectation,
  formatPath,
  type Path,
  type SchemaNode,
  schemaAt,
  unwrapNull,
} from '../config/describe.js';
import { leaves, show, valueAt } from '../config/value.js';
import { textProblems } from '../config/yaml-problems.js';
import { OrchestratorError } from '../errors.js';
import { reasonOf } from '../files/io.js';
import { nearest } from '../text/nearest.js';
import { type StudySpec, studySchema } from './schema.js';

let cached: SchemaNode | null = null;

/** The JSON Schema of a study's file (draft 2020-12). */
export function studyJsonSchema(): SchemaNode {
  cached ??= z.toJSONSchema(studySchema, { io: 'input' }) as SchemaNode;
  return cached;
}

/** A study's file: its path, its text and what it says. */
export interface LoadedStudy {
  path: string;
  text: string;
  spec: StudySpec;
}

/** @throws OrchestratorError ERR_CONFIG. */
export function loadStudy(path: string): LoadedStudy {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new OrchestratorError('ERR_CONFIG', `Cannot read ${path}: ${reasonOf(cause)}`, { cause });
  }
  return { path, text, spec: parseStudy(text, path) };
}

/** @param name names the text in errors. */
export function parseStudy(text: string, name: string): StudySpec {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, stringKeys: true });
  const placeOf = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${name}:${line}:${col}`;
  };
  const problems = textProblems(document, text, lines, placeOf).map(
    ({ offset, key, text: what }) => `${placeOf(offset)}: ${key === '' ? '' : `${key}: `}${what}`,
  );
  if (problems.length > 0) throw invalid(problems);
  const value: unknown = document.toJS() ?? {};
  const parsed = studySchema.safeParse(value);
  if (parsed.success) return checked(parsed.data, name);
  const place = (path: Path) => {
    for (let length = path.length; length > 0; length--) {
      const node = document.getIn(path.slice(0, length), true) as
        | { range?: [number, number, number] }
        | undefined;
      if (node?.range) return placeOf(node.range[0]);
    }
    return `${name}:1:1`;
  };
  throw invalid(
    parsed.error.issues.flatMap((issue) => {
      const path = issue.path as (string | number)[];
      if (issue.code !== 'unrecognized_keys') {
        const schema = schemaAt(path, studyJsonSchema());
        const expected = schema === null ? issue.message : `expected ${expectation(schema)}`;
        return [`${place(path)}: ${formatPath(path)}: ${expected}, received ${show(valueAt(value, path))}`];
      }
      const names = Object.keys(unwrapNull(schemaAt(path, studyJsonSchema()) ?? {}).node.properties ?? {});
      return issue.keys.map((key) => {
        const near = nearest(key, names);
        const advice = near === null ? '' : `; did you mean ${near}`;
        const full = [...path, key];
        return `${place(full)}: ${formatPath(full)}: unknown key; expected one of ${names.join(', ')}${advice}`;
      });
    }),
  );
}

/** Keys that a study sets for each run, and from what: with other values, runs would not be what they are called. */
const OWN_KEYS: Readonly<Record<string, string>> = {
  name: 'the names of data set, variant and seed',
  seed: 'its list of seeds',
  'data.path': 'its data sets',
};

/** What the schema cannot say. */
function checked(spec: StudySpec, name: string): StudySpec {
  const { evaluation, vary, variants, data, quick } = spec;
  const problems: string[] = [];
  if (Object.keys(vary).length + Object.keys(variants).length === 0) {
    problems.push(`${name}: variants: expected variants, or values in vary; received neither`);
  }
  if (Object.keys(data).length === 0) problems.push(`${name}: data: expected a data set, received none`);
  if (evaluation !== null && evaluation.shown >= evaluation.samplers.length) {
    const last = evaluation.samplers.length - 1;
    problems.push(
      `${name}: evaluation.shown: expected a sampler from 0 to ${last}, received ${evaluation.shown}`,
    );
  }
  const varied = Object.entries(vary).flatMap(([key, values]) => values.map((value) => ({ [key]: value })));
  const changes = [spec.set, quick?.set, ...varied, ...Object.values(variants)];
  const set = changes.flatMap((keys) => [...leaves(keys)].map(({ path }) => path.join('.')));
  for (const [key, instead] of Object.entries(OWN_KEYS)) {
    if (set.includes(key)) problems.push(`${name}: ${key} is set by the study, from ${instead}`);
  }
  if (problems.length > 0) throw invalid(problems);
  return spec;
}

function invalid(problems: readonly string[]): OrchestratorError {
  const message =
    problems.length === 1 ? problems[0]! : `${problems.length} problems\n${problems.join('\n')}`;
  return new OrchestratorError('ERR_CONFIG', message, 'docs/reference/study.md lists every key of a study');
}
