/** What is in TensorBoard's event files. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { loadSync, type MessageTypeDefinition } from '@grpc/proto-loader';
import type { Event__Output as Event } from '../../src/rpc/generated/tensorboard/Event.js';

const options = { longs: Number, enums: String, oneofs: true };
const definition = loadSync('proto/tensorboard.proto', options)['tensorboard.Event'];
const { deserialize } = definition as MessageTypeDefinition<unknown, Event>;

/** The names of the files of a folder, in the order in which they are read. */
export function eventFiles(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.includes('tfevents'))
    .sort();
}

/** The events of a file, which must end with a whole record; test/unit/formats compares records with TensorBoard's. */
export function eventsIn(path: string): Event[] {
  const bytes = readFileSync(path);
  const events: Event[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 12 + Number(bytes.readBigUInt64LE(at));
    events.push(deserialize(bytes.subarray(at + 12, end)));
    at = end + 4;
  }
  return events;
}

/** Where scripts/install-tensorboard.sh puts it. */
const INSTALLED = 'build-tensorboard';
const environment = () => ({
  ...process.env,
  PYTHONPATH: [INSTALLED, process.env.PYTHONPATH ?? ''].join(':'),
});

/** Null where Python has TensorBoard's reader, else what is missing. */
export function needsTensorboard(): string | null {
  const read = ['-c', 'import tensorboard.backend.event_processing.event_accumulator'];
  const { status } = spawnSync('python3', read, { env: environment(), stdio: 'ignore' });
  return status === 0 ? null : "needs Python's package tensorboard (scripts/install-tensorboard.sh)";
}

interface Found {
  /** By tag: step, value and seconds since 1970. */
  scalars: Record<string, [number, number, number][]>;
  texts: Record<string, [number, string][]>;
}

/** What TensorBoard reads in a folder. */
export function readByTensorboard(folder: string): Found {
  const output = execFileSync('python3', ['test/support/event-reader.py', folder], {
    env: environment(),
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 1 << 28,
  });
  return JSON.parse(output) as Found;
}
