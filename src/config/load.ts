/**
 * Loads a configuration. Precedence: --set flag > ORCHESTRATOR_ environment variable > YAML file > default.
 * All problems are reported at once, each with its place, what was expected, what was received, and the
 * nearest name.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { z } from 'zod';
import { OrchestratorError } from '../errors.js';
import { errnoOf, reasonOf } from '../files/io.js';
import { isMapping, type Mapping } from '../files/json.js';
import { nearest } from '../text/nearest.js';
import { problemsOf } from './issues.js';
import { RULES } from './rules.js';
import { type Config, configSchema } from './schema.js';
import { type Problem, Sources } from './sources.js';
import { deleteAt, leaves, setAt, valueAt } from './value.js';

/**
 * Loads and validates a configuration.
 *
 * @param path YAML file.
 * @param overrides "a.b=value" texts of --set with YAML values; later ones win.
 */
export function loadConfig(
  path: string,
  overrides: readonly string[] = [],
  environment: NodeJS.ProcessEnv = process.env,
): Config {
  return loadConfigWithSources(path, overrides, environment).config;
}

/** Like loadConfig, but also returns where every value comes from, for `explain`. */
export function loadConfigWithSources(
  path: string,
  overrides: readonly string[] = [],
  environment: NodeJS.ProcessEnv = process.env,
) {
  const sources = new Sources(path, readText(path), environment, overrides);
  return { config: validate(sources), sources };
}

export type LoadedConfig = ReturnType<typeof loadConfigWithSources>;

/** Every value of the effective configuration with its dotted key and its origin, in the schema's order. */
export function explain({ config, sources }: LoadedConfig) {
  return [...leaves(config)].map(({ path, value }) => ({
    key: path.join('.'),
    value,
    ...sources.originOf(path),
  }));
}

/**
 * Validates a stored configuration, without environment variables or flags: the canonical JSON of a
 * checkpoint, or a run's config.yaml.
 *
 * @param name names the text in errors.
 */
export function parseConfig(text: string, name: string): Config {
  return validate(new Sources(name, text, {}, []));
}

/**
 * The configuration with other defaults: each value counts where the user set nothing, or null. The rules are
 * checked again.
 */
export function withDefaults(
  { config, sources }: LoadedConfig,
  values: readonly { path: readonly string[]; value: unknown }[],
): LoadedConfig {
  const complete = structuredClone(config);
  for (const { path, value } of values) {
    const open = (valueAt(sources.merged, path) ?? null) === null;
    if (open && isMapping(valueAt(complete, path.slice(0, -1)))) setAt(complete, path, value);
  }
  const problems = brokenRules(complete, [], sources, true);
  if (problems.length > 0) throw configError(problems);
  return { config: complete, sources };
}

function validate(sources: Sources): Config {
  const parsed = configSchema.safeParse(sources.merged);
  const problems = [...sources.problems];
  if (parsed.success) {
    problems.push(...brokenRules(parsed.data, [], sources));
  } else if (sources.readable) {
    const issues = parsed.error.issues;
    problems.push(...problemsOf(issues, sources));
    const rest = withoutInvalid(sources.merged, issues);
    if (rest !== null) {
      const wrong = issues.filter((issue) => issue.code !== 'unrecognized_keys');
      const invalid = wrong.map((issue) => keyPath(issue).join('.'));
      problems.push(...brokenRules(rest, invalid, sources));
    }
  }
  if (parsed.success && problems.length === 0) return parsed.data;
  throw configError(problems, sources.readable);
}

function formatProblem({ place, key, text }: Problem): string {
  return key === '' ? `${place}: ${text}` : `${place}: ${key}: ${text}`;
}

/** @param readable whether there is a configuration to show. */
function configError(problems: readonly Problem[], readable = true): OrchestratorError {
  const lines = [...new Set(problems.map(formatProblem))];
  lines.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  const message = lines.length === 1 ? lines[0]! : `${lines.length} problems\n${lines.join('\n')}`;
  return new OrchestratorError(
    'ERR_CONFIG',
    message,
    // `config show` is refused with the same words; without a problem in it, it shows what is in effect.
    `\`orchestrator config keys\` lists every key${readable ? '; `orchestrator config show CONFIG` shows what is in effect' : ''}`,
  );
}

/**
 * The rules that are broken, each with the place of the key that the user set last: a flag before a variable,
 * a variable before the file; otherwise that of the rule's own key.
 *
 * @param invalid keys that are invalid by themselves.
 * @param complete whether the model is known; before, the weights of `init` may give some of its keys.
 */
function brokenRules(
  config: Config,
  invalid: readonly string[],
  sources: Sources,
  complete = config.init === null,
): Problem[] {
  const isOpen = (key: string) =>
    !complete && key.startsWith('model.') && valueAt(sources.merged, key.split('.')) === undefined;
  return RULES.flatMap(({ key, reads, check }) => {
    if ([key, ...reads].some((read) => isOpen(read) || invalid.some((bad) => overlaps(read, bad)))) return [];
    const text = check(config);
    if (text === null) return [];
    const last = [key, ...reads].reduce((chosen, read) =>
      sources.rankOf(read.split('.')) > sources.rankOf(chosen.split('.')) ? read : chosen,
    );
    const where = last === key ? '' : ` (${originText(key, sources)})`;
    return [{ place: sources.placeFor(last.split('.')), key, text: text + where }];
  });
}

/** "batch.global is set at run.yaml:3:5", "batch.global has its default; set it too" */
function originText(key: string, sources: Sources): string {
  const { source, place } = sources.originOf(key.split('.'));
  return source === 'default' ? `${key} has its default; set it too` : `${key} is set at ${place}`;
}

function overlaps(a: string, b: string): boolean {
  return a === b || a.startsWith(`${b}.`) || b.startsWith(`${a}.`);
}

/** The path up to the first list position: what can be removed from a mapping. */
function keyPath(issue: z.core.$ZodIssue): string[] {
  const position = issue.path.findIndex((part) => typeof part !== 'string');
  return (position < 0 ? issue.path : issue.path.slice(0, position)) as string[];
}

/**
 * The configuration with defaults in place of invalid values, so that rules between the other keys can be
 * checked.
 */
function withoutInvalid(merged: Mapping, issues: readonly z.core.$ZodIssue[]): Config | null {
  const rest = structuredClone(merged);
  for (const issue of issues) {
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) deleteAt(rest, [...keyPath(issue), key]);
    } else {
      deleteAt(rest, keyPath(issue));
    }
  }
  rest.name ??= 'unnamed';
  rest.data = { path: '.', ...(isMapping(rest.data) ? rest.data : {}) };
  const parsed = configSchema.safeParse(rest);
  return parsed.success ? parsed.data : null;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const near = errnoOf(error) === 'ENOENT' ? nearestFile(path) : null;
    const message = `Cannot read ${path}: ${reasonOf(error)}${near === null ? '' : `; did you mean ${near}`}`;
    throw new OrchestratorError('ERR_CONFIG', message, { cause: error });
  }
}

function nearestFile(path: string): string | null {
  try {
    const name = nearest(
      basename(path),
      readdirSync(dirname(path)).filter((file) => /\.ya?ml$/.test(file)),
    );
    return name === null ? null : join(dirname(path), name);
  } catch {
    return null;
  }
}
