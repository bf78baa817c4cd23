/**
 * The sources of values: the YAML file, then environment variables (ORCHESTRATOR_BATCH__MICRO=8), then flags
 * (--set batch.micro=8), each overriding the previous one. Records the place of every value for errors and
 * `explain`.
 */
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, parse, parseDocument } from 'yaml';
import { isMapping, type Mapping } from '../files/json.js';
import { nearest } from '../text/nearest.js';
import { aliasOf } from './aliases.js';
import { formatPath, keyPaths, type Path, schemaAt } from './describe.js';
import { setAt, valueAt } from './value.js';
import { textProblems } from './yaml-problems.js';

type Source = 'flag' | 'environment' | 'file' | 'default';

/** Where a value was set. */
interface Origin {
  source: Source;
  /** "run.yaml:3:5", "--set batch.micro=8", "ORCHESTRATOR_BATCH__MICRO"; empty for defaults. */
  place: string;
}

/** One problem of a configuration. */
export interface Problem {
  /** "run.yaml:3:5", "--set batch.micro=x", "ORCHESTRATOR_BATCH__MICRO". */
  place: string;
  /** Dotted key; empty if the problem concerns the whole file. */
  key: string;
  /** "expected X, received Y; did you mean Z". */
  text: string;
}

interface Override {
  source: 'flag' | 'environment';
  place: string;
  path: string[];
  value: unknown;
}

const PREFIX = 'ORCHESTRATOR_';

/** The variables with this prefix that are no keys: of the program, its tests and its benches. */
export const OWN_VARIABLES: readonly string[] = [
  'ADDON',
  'CLI',
  'COORDINATOR',
  'CUDA',
  'CUDA_ALGORITHMS',
  'CUDA_ATTENTION',
  'CUDA_GELU',
  'CUDA_FP8_SUMS',
  'EMULATED_GPUS',
  'EMULATED_HANG',
  'EMULATED_PAGE_LOCKS',
  'FAULT',
  'FIXTURES',
  'FUZZ_MUTANTS',
  'FUZZ_SEED',
  'GPU',
  'ISA',
  'NOHUP',
  'ORCH_TEST',
  'PYTHON',
  'RESULTS',
  'RUN',
  'TEST_CUDA',
  'FUZZ_SECONDS',
  'TEST_FAULTS',
  'TEST_FULL',
  'TEST_SMALL',
  'TEST_VERBOSE',
  'TOKEN',
  'WATCHDOG',
  'WORKER_ID',
].map((name) => PREFIX + name);

/** All sources of one configuration, merged. */
export class Sources {
  readonly problems: Problem[] = [];
  readonly #file: string;
  readonly #lines = new LineCounter();
  readonly #document: Document;
  readonly #fileValue: unknown;
  readonly #overrides: Override[] = [];
  /** Whether the file is a YAML mapping, so that missing keys are worth reporting. */
  readable: boolean;
  /** All sources merged: the input of the schema. */
  readonly merged: Mapping;

  constructor(file: string, text: string, environment: NodeJS.ProcessEnv, flags: readonly string[]) {
    this.#file = file;
    this.#document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false, stringKeys: true });
    const placeOf = (offset: number) => this.#placeOf(offset);
    for (const { offset, key, text: what } of textProblems(this.#document, text, this.#lines, placeOf)) {
      this.problems.push({ place: placeOf(offset), key, text: what });
    }
    this.readable = this.#document.errors.every((error) => error.code === 'DUPLICATE_KEY');
    this.#fileValue = this.readable ? this.#toValue() : {};
    this.merged = isMapping(this.#fileValue) ? structuredClone(this.#fileValue) : {};
    for (const [name, value] of Object.entries(environment)) this.#readVariable(name, value);
    for (const flag of flags) this.#readFlag(flag);
    for (const override of this.#overrides) this.#apply(override);
  }

  /** Where the value at a path was set; source "default" if nowhere. */
  originOf(path: Path): Origin {
    const override = this.#overrides.findLast(
      (candidate) => startsWith(path, candidate.path) || startsWith(candidate.path, path),
    );
    if (override !== undefined && startsWith(path, override.path)) {
      const set = valueAt(override.value, path.slice(override.path.length)) !== undefined;
      return set ? { source: override.source, place: override.place } : { source: 'default', place: '' };
    }
    if (valueAt(this.#fileValue, path) !== undefined)
      return { source: 'file', place: this.#filePlace(path, false) };
    return { source: 'default', place: '' };
  }

  /** How late a value was set: above those that it overrides; flags in their order. */
  rankOf(path: Path): number {
    const { source, place } = this.originOf(path);
    if (source === 'default') return 0;
    if (source === 'file') return 1;
    return 2 + this.#overrides.findLastIndex((override) => override.place === place);
  }

  /** The place to point the user to: that of the value, or of the mapping in which it is missing. */
  placeFor(path: Path, atKey = false): string {
    if (atKey && valueAt(this.#fileValue, path) === undefined) {
      const override = this.#overrides.findLast((candidate) => startsWith(candidate.path, path));
      if (override !== undefined) return override.place;
    }
    for (let length = path.length; length > 0; length--) {
      const origin = this.originOf(path.slice(0, length));
      if (origin.source === 'file')
        return this.#filePlace(path.slice(0, length), atKey || length < path.length);
      if (origin.source !== 'default') return origin.place;
    }
    return `${this.#file}:1:1`;
  }

  #toValue(): unknown {
    let value: unknown;
    try {
      value = this.#document.toJS();
    } catch (error) {
      return this.#unreadable(`not readable as YAML: ${String(error)}`);
    }
    if (value === null || isMapping(value)) return value ?? {};
    return this.#unreadable('expected a mapping of keys to values');
  }

  #unreadable(text: string): Mapping {
    this.problems.push({ place: `${this.#file}:1:1`, key: '', text });
    this.readable = false;
    return {};
  }

  #readVariable(name: string, value: string | undefined): void {
    if (value === undefined || !name.startsWith(PREFIX)) return;
    const path = name.slice(PREFIX.length).toLowerCase().split('__');
    if (path.length === 1 && schemaAt(path) === null) {
      if (!OWN_VARIABLES.includes(name))
        this.problems.push({ place: name, key: '', text: unknownVariable(name) });
      return;
    }
    this.#add('environment', name, path, value);
  }

  #readFlag(flag: string): void {
    const place = `--set ${flag}`;
    const equals = flag.indexOf('=');
    if (equals <= 0) {
      this.problems.push({ place, key: '', text: 'expected key=value, such as batch.micro=8' });
      return;
    }
    this.#add('flag', place, flag.slice(0, equals).trim().split('.'), flag.slice(equals + 1));
  }

  #add(source: Override['source'], place: string, path: string[], text: string): void {
    try {
      const value: unknown = parse(text, { prettyErrors: false, logLevel: 'error' }) ?? null;
      this.#overrides.push({ source, place, path, value });
    } catch (error) {
      const message = error instanceof Error ? error.message.split('\n')[0] : String(error);
      this.problems.push({ place, key: formatPath(path), text: `not readable as YAML: ${message}` });
    }
  }

  #apply({ path, value, place }: Override): void {
    if (path.some((part) => part === '' || part === '__proto__')) {
      this.problems.push({ place, key: formatPath(path), text: 'expected a key such as batch.micro' });
      return;
    }
    const blocked = setAt(this.merged, path, value);
    if (blocked !== null) {
      this.problems.push({ place, key: formatPath(path), text: `${formatPath(blocked)} is not a mapping` });
    }
  }

  #filePlace(path: Path, atKey: boolean): string {
    let node: unknown = this.#document.contents;
    let offset: number | null = null;
    for (const [depth, part] of path.entries()) {
      if (isAlias(node)) node = node.resolve(this.#document);
      if (isMap(node)) {
        const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === part);
        const useKey = atKey && depth === path.length - 1;
        offset = start(useKey ? pair?.key : pair?.value) ?? start(pair?.key) ?? offset;
        node = pair?.value;
      } else if (isSeq(node)) {
        node = node.items[part as number];
        offset = start(node) ?? offset;
      }
    }
    return this.#placeOf(offset ?? 0);
  }

  #placeOf(offset: number): string {
    const { line, col } = this.#lines.linePos(offset);
    return `${this.#file}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
  }
}

function unknownVariable(name: string): string {
  const keys = keyPaths().map((path) => path.join('__').toUpperCase());
  const others = OWN_VARIABLES.map((variable) => variable.slice(PREFIX.length));
  const key = name.slice(PREFIX.length);
  const near = nearest(key, [...keys, ...others]);
  const other = aliasOf(key);
  const suggestion = other !== null ? `; ${other}` : near === null ? '' : `; did you mean ${PREFIX}${near}`;
  return `unknown variable; a key such as batch.micro is ${PREFIX}BATCH__MICRO${suggestion}`;
}

function start(node: unknown): number | null {
  return (node as { range?: [number, number, number] | null } | null | undefined)?.range?.[0] ?? null;
}

function startsWith(path: Path, prefix: Path): boolean {
  return prefix.length <= path.length && prefix.every((part, i) => part === path[i]);
}
