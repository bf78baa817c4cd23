/**
 * Describes in words what the schema expects, from its JSON Schema, for errors and for the reference page.
 */
import { z } from 'zod';
import { configSchema } from './schema.js';

/** The parts of JSON Schema that the configuration's schema uses. */
export interface SchemaNode {
  type?: string;
  title?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  multipleOf?: number;
  minLength?: number;
  minItems?: number;
  properties?: Record<string, SchemaNode>;
  required?: string[];
  /** What a mapping of any names holds. */
  additionalProperties?: SchemaNode | false;
  items?: SchemaNode | false;
  prefixItems?: SchemaNode[];
  anyOf?: SchemaNode[];
}

/** Keys and list positions from the top of a configuration. */
export type Path = readonly (string | number)[];

/** A path as text: `a.b.c`, with list positions as `a.b[0]`. */
export function formatPath(path: Path): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else text += text === '' ? part : `.${part}`;
  }
  return text;
}

let cached: SchemaNode | null = null;

/** The JSON Schema of a configuration file (draft 2020-12). */
export function jsonSchema(): SchemaNode {
  cached ??= z.toJSONSchema(configSchema, { io: 'input' }) as SchemaNode;
  return cached;
}

/** The node without its `null` alternative, and whether it had one. */
export function unwrapNull(node: SchemaNode): { node: SchemaNode; nullable: boolean } {
  if (node.anyOf === undefined) return { node, nullable: false };
  const others = node.anyOf.filter((alternative) => alternative.type !== 'null');
  if (others.length !== 1) return { node, nullable: others.length < node.anyOf.length };
  return { node: others[0]!, nullable: true };
}

/** The schema of a key, or null if there is no such key. */
export function schemaAt(path: Path, root = jsonSchema()): SchemaNode | null {
  let current = root;
  for (const part of path) {
    const { prefixItems, items, properties = {}, additionalProperties } = unwrapNull(current).node;
    const child = Object.hasOwn(properties, part) ? properties[part] : additionalProperties || undefined;
    const next = typeof part === 'number' ? (prefixItems?.[part] ?? items) : child;
    if (!next) return null;
    current = next;
  }
  return current;
}

/** The names that a mapping may have; none if the path is not a mapping. */
export function namesAt(path: Path): string[] {
  const found = schemaAt(path);
  return found === null ? [] : Object.keys(unwrapNull(found).node.properties ?? {});
}

/** The default of a key as text; null for mappings, whose keys have defaults of their own. */
export function defaultOf(node: SchemaNode): string | null {
  const isMapping = unwrapNull(node).node.properties !== undefined;
  return isMapping && node.default !== null ? null : JSON.stringify(node.default);
}

/** The paths of all keys, mappings before what they hold. */
export function keyPaths(mapping = jsonSchema(), prefix: readonly string[] = []): string[][] {
  return Object.entries(mapping.properties ?? {}).flatMap(([name, child]) => {
    const path = [...prefix, name];
    return [path, ...keyPaths(unwrapNull(child).node, path)];
  });
}

/** "an integer from 1 to 64", "one of fp32, bf16", "a list of 2 numbers ..., or null". */
export function expectation(schema: SchemaNode): string {
  const { node, nullable } = unwrapNull(schema);
  return `${bare(node)}${nullable ? ', or null' : ''}`;
}

function bare(node: SchemaNode): string {
  if (node.title !== undefined) return node.title;
  if (node.enum?.length === 1) return String(node.enum[0]);
  if (node.enum !== undefined) return `one of ${node.enum.join(', ')}`;
  switch (node.type) {
    case 'object':
      return `a mapping with ${Object.keys(node.properties ?? {}).join(', ')}`;
    case 'array':
      return list(node);
    case 'integer':
    case 'number':
      return `${node.type === 'integer' ? 'an integer' : 'a number'}${multiple(node)}${range(node)}`;
    case 'boolean':
      return 'true or false';
    case 'string':
      return (node.minLength ?? 0) > 0 ? 'a non-empty string' : 'a string';
    default:
      return node.type ?? 'another value';
  }
}

function list(node: SchemaNode): string {
  if (node.prefixItems !== undefined) {
    const kinds = new Set(node.prefixItems.map(bare));
    return `a list of ${node.prefixItems.length}, each ${[...kinds].join(' / ')}`;
  }
  const size = (node.minItems ?? 0) > 0 ? 'a non-empty list' : 'a list';
  return node.items ? `${size}, each ${bare(node.items)}` : size;
}

function multiple(node: SchemaNode): string {
  return node.multipleOf === undefined ? '' : `, a multiple of ${node.multipleOf},`;
}

function range(node: SchemaNode): string {
  const high = node.maximum === Number.MAX_SAFE_INTEGER ? undefined : node.maximum;
  const low = node.minimum === Number.MIN_SAFE_INTEGER ? undefined : node.minimum;
  if (low !== undefined && high !== undefined) return ` from ${low} to ${high}`;
  const parts: string[] = [];
  if (low !== undefined) parts.push(` of at least ${low}`);
  if (node.exclusiveMinimum !== undefined) parts.push(` greater than ${node.exclusiveMinimum}`);
  if (high !== undefined) parts.push(` of at most ${high}`);
  if (node.exclusiveMaximum !== undefined) parts.push(` less than ${node.exclusiveMaximum}`);
  return parts.join(' and');
}
