/**
 * The numbers of metrics.jsonl as TensorBoard's event files, in the run folder, so that TensorBoard shows the run by
 * the name of its folder. Every start of the run writes a file of its own.
 */
import { closeSync, ftruncateSync, openSync, readdirSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { writeFailure } from '../files/io.js';
import { isMapping, type Mapping } from '../files/json.js';
import { eventRecord, FILE_VERSION, textValue } from '../formats/event-file.js';
import type { Event } from '../rpc/generated/tensorboard/Event.js';
import { stepObject, validationObject } from './metrics-file.js';
import { now, type Sink, type TimeOf } from './record.js';

type Scalar = readonly [tag: string, value: number];

/** Tags, whose first part is the section that TensorBoard shows them in, by keys of steps; others are in "train". */
const STEP_TAGS: Readonly<Record<string, string>> = {
  seconds: 'performance/seconds',
  samples_per_second: 'performance/samples_per_second',
  flops_per_second: 'performance/flops_per_second',
  max_abs_logit: 'attention/max_abs_logit',
  attention: 'attention',
  gradient_norms: 'gradient_norms',
  workers: 'workers',
};

/**
 * @param configuration of the run, in YAML.
 */
export function tensorboardFile(folder: string, configuration: string, time: TimeOf = now): Sink {
  let file: EventFile | null = null;
  let last = 0;
  const write = (step: number, event: Event) =>
    file?.append(eventRecord({ wallTime: time().getTime() / 1000, step, ...event }));
  /** TensorBoard then drops what it has of this step and later ones. */
  const startAt = (step: number) => write(step, { sessionLog: { status: 'START' } });
  const scalars = (step: number, values: Iterable<Scalar>) =>
    write(step, { summary: { value: Array.from(values, ([tag, simpleValue]) => ({ tag, simpleValue })) } });
  return {
    start: ({ firstStep }) => {
      file = new EventFile(nextPath(folder, time()));
      write(0, { fileVersion: FILE_VERSION });
      startAt(firstStep);
      const summary = textValue('configuration/text_summary', `\`\`\`yaml\n${configuration}\`\`\``);
      write(firstStep - 1, { summary });
      last = firstStep - 1;
    },
    step: (record) => {
      const { step } = record;
      // Workers that were lost took the state of the last steps with them.
      if (step <= last) startAt(step);
      last = step;
      scalars(
        step,
        numbersOf(stepObject(record), (key) => STEP_TAGS[key] ?? `train/${key}`),
      );
    },
    validation: (record) =>
      scalars(
        record.step,
        numbersOf(validationObject(record), (key) => `validation/${key.replace(/^val_/, '')}`),
      ),
    checkpoint: ({ step, seconds, stallSeconds, bytes }) =>
      scalars(step, [
        ['checkpoint/seconds', seconds],
        ['checkpoint/stall_seconds', stallSeconds],
        ['checkpoint/bytes', bytes],
      ]),
    close: () => {
      file?.close();
      file = null;
    },
  };
}

/** The numbers of a line of metrics.jsonl, but for its step. */
function* numbersOf({ step, ...line }: Mapping, tagOf: (key: string) => string): Generator<Scalar> {
  for (const [key, value] of Object.entries(line)) yield* numbersIn(tagOf(key), value);
}

/** The numbers in a value; those of workers by their rank. */
function* numbersIn(tag: string, value: unknown): Generator<Scalar> {
  if (typeof value === 'number') yield [tag, value];
  else if (Array.isArray(value))
    for (const { rank, ...numbers } of value as Mapping[]) yield* numbersIn(`${tag}/rank ${rank}`, numbers);
  else if (isMapping(value))
    for (const [key, inner] of Object.entries(value)) yield* numbersIn(`${tag}/${key}`, inner);
}

/**
 * Where the next file goes: readers go through the files in the order of their names, so that it comes after those
 * that are there, also those of the same second and of a clock that is ahead.
 */
function nextPath(folder: string, time: Date): string {
  const before = readdirSync(folder).map((name) =>
    Number(/^events\.out\.tfevents\.(\d{10})\./.exec(name)?.[1] ?? 0),
  );
  const seconds = Math.max(Math.floor(time.getTime() / 1000), ...before.map((second) => second + 1));
  return join(folder, `events.out.tfevents.${seconds}.${hostname()}.${process.pid}.0`);
}

/** Appends whole records. A full disk must not end the run through it: the ledger and metrics.jsonl report it. */
class EventFile {
  #fd: number | null;
  /** Size of the whole records. */
  #bytes = 0;

  constructor(path: string) {
    try {
      this.#fd = openSync(path, 'ax');
    } catch (error) {
      throw writeFailure(path, error);
    }
  }

  append(record: Uint8Array): void {
    if (this.#fd === null) return;
    try {
      for (let at = 0; at < record.length; ) at += writeSync(this.#fd, record, at);
      this.#bytes += record.length;
    } catch {
      this.#cut();
    }
  }

  /** Readers do not come past a part of a record. */
  #cut(): void {
    try {
      ftruncateSync(this.#fd as number, this.#bytes);
    } catch {
      this.close();
    }
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }
}
