/** The time to open a file of 100,000 record batches, and to convert Parquet files. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  Field,
  FixedSizeList,
  Float16,
  makeData,
  RecordBatch,
  RecordBatchStreamWriter,
  Schema,
  Struct,
} from 'apache-arrow';
import { joinColumn } from '../src/data/column.js';
import { convertParquet } from '../src/data/convert.js';
import { openSource } from '../src/data/formats.js';
import { totalBytes } from '../src/memory/parts.js';
import { DATA } from './goals.js';
import { goal, milliseconds, print } from './report.js';

const BATCHES = 100_000;
const COLUMNS = ['latent', 'clip_l', 'clip_l_pooled', 'clip_g', 'clip_g_pooled', 't5'];
const WIDTH = 64;
/** At the end of a stream. */
const END_BYTES = 8;

/** @param parquet a Parquet file or a folder of them; null: none is converted. */
export async function benchData(parquet: string | null): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'orchestrator-bench-'));
  try {
    await openBatches(folder);
    if (parquet === null) print('Parquet: give a file or folder with --parquet');
    else await convert(parquet, join(folder, 'converted'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What `work` took, on the clock and of the processors. */
async function timed<T>(
  work: () => T | Promise<T>,
): Promise<{ result: T; seconds: number; processor: number }> {
  const [started, before] = [performance.now(), process.cpuUsage()];
  const result = await work();
  const { user, system } = process.cpuUsage(before);
  return { result, seconds: (performance.now() - started) / 1e3, processor: (user + system) / 1e6 };
}

/** A Hugging Face folder whose file has a record batch for each row, opened as a run does. */
async function openBatches(folder: string): Promise<void> {
  const [one, two] = [stream(1), stream(2)];
  const [schema, batch] = [
    one.subarray(0, 2 * one.length - two.length - END_BYTES),
    two.subarray(one.length - END_BYTES, -END_BYTES),
  ];
  const bytes = Buffer.concat([
    schema,
    ...new Array<Uint8Array>(BATCHES).fill(batch),
    two.subarray(-END_BYTES),
  ]);
  writeFileSync(join(folder, 'data.arrow'), bytes);
  writeFileSync(join(folder, 'state.json'), JSON.stringify({ _data_files: [{ filename: 'data.arrow' }] }));
  const { result, seconds, processor } = await timed(() => {
    const source = openSource(folder);
    for (const name of COLUMNS) joinColumn(source, name, name);
    return source;
  });
  print(
    `open ${result.rows} record batches: ${milliseconds(seconds)}, processor time ${milliseconds(processor)}`,
  );
  goal(
    `open 100,000 record batches in ${DATA.openSeconds} s of processor time`,
    processor <= DATA.openSeconds,
  );
}

/** An Arrow stream of batches of one row. */
function stream(batches: number): Uint8Array {
  const item = new Float16();
  const type = new FixedSizeList(WIDTH, new Field('item', item, false));
  const fields = COLUMNS.map((name) => new Field(name, type, false));
  const children = COLUMNS.map(() => {
    const child = makeData({ type: item, length: WIDTH, nullCount: 0, data: new Uint16Array(WIDTH) });
    return makeData({ type, length: 1, nullCount: 0, child });
  });
  const struct = makeData({ type: new Struct(fields), length: 1, nullCount: 0, children });
  const writer = new RecordBatchStreamWriter();
  for (let i = 0; i < batches; i++) writer.write(new RecordBatch(new Schema(fields), struct));
  writer.finish();
  return writer.toUint8Array(true);
}

async function convert(source: string, out: string): Promise<void> {
  const { result, seconds, processor } = await timed(() =>
    convertParquet({ source, out, leaveOut: [], progress: null }),
  );
  const megabytes = totalBytes(result.manifest.shards) / 1e6;
  const rate = (of: number) => `${(megabytes / of).toFixed(0)} MB/s`;
  print(
    `convert ${megabytes.toFixed(0)} MB of stored values: ${rate(seconds)}, ${rate(processor)} of processor time`,
  );
  goal(`convert ${DATA.convertRate} MB/s of processor time`, megabytes / processor >= DATA.convertRate);
}
