/** Where the Parquet files of a data set are. Apart from their conversion, whose libraries take long to load. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** A Parquet file, or those in a folder, in the order of their names. */
export function parquetFiles(path: string): string[] {
  const status = statSync(path, { throwIfNoEntry: false });
  if (status?.isFile()) return path.endsWith('.parquet') ? [path] : [];
  if (!status?.isDirectory()) return [];
  const names = readdirSync(path).filter((name) => name.endsWith('.parquet'));
  return names.sort().map((name) => join(path, name));
}
