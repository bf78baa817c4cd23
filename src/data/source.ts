/** What every format tells about a data set, before any value is read. */
import type { Config } from '../config/schema.js';
import type { NumericColumn, Reading } from '../formats/arrow/columns.js';

/** A file with rows, with its size when it was opened. */
export interface DataFile {
  path: string;
  bytes: number;
  rows: number;
}

/** A column's values in one file: contiguous runs of rows, counted from the first row of the file. */
interface ColumnPart extends NumericColumn {
  /** Index into the source's files. */
  file: number;
}

/** The column of each role. */
export type Columns = NonNullable<Config['data']['columns']>;
export type CaptionColumns = Columns['original'];

/** The recorded SHA-256 of a file. */
export interface RecordedHash {
  path: string;
  sha256: string;
  /** Where it is recorded, for messages: "the manifest". */
  recordedIn: string;
  /** What follows "FILE is damaged" in the message where the hash differs. */
  damage: () => string;
  /** What to do where the hash differs. */
  hint: string;
}

/** A format of data sets: how to recognise its folders, and how to read them. */
export interface DataFormat {
  /** Part of a data set's identity, so it never changes. */
  name: string;
  /** The name for people. */
  title: string;
  /** The file that makes a folder one of this format. */
  marker: string;
  /** Whether a folder with the marker is one of this format, where it could also be one of another. */
  recognises?(path: string): boolean;
  /** Reads the metadata of a folder, without checking the contents. */
  open(path: string): DataSource;
  /** Why a folder without the marker may yet be meant to be of this format, and what to do; else null. */
  hint?(path: string): string | null;
}

/** A data set's folder: its rows, files and columns, and what its metadata states about them. */
export interface DataSource {
  /** Path of the folder, as given. */
  path: string;
  format: DataFormat;
  rows: number;
  files: DataFile[];
  /** The row of the files for each row, where the set is a selection of them; null: all, in order. */
  order: Float64Array | null;
  columns: { name: string; type: string }[];
  /** Shapes of rows that the metadata states, by column. */
  shapes: ReadonlyMap<string, readonly number[]>;
  /**
   * The column of each role, from the metadata or from the configuration.
   *
   * @param place where the configuration was set, for messages: " (run.yaml:3:5)"; default "".
   */
  roles(configured: Columns | null, place?: string): Columns;
  /** Names of the text encoders; null if the data set does not name them. */
  encoders: Record<'clip_l' | 'clip_g' | 't5', string> | null;
  /** The parts of a column of numbers, file by file; ERR_DATA_* for any other column. */
  parts(column: string, reading?: Reading): Iterable<ColumnPart>;
  /** The string or integer in a row, as text; ERR_DATA_* for columns of other types. */
  label(column: string, row: number): string;
  /**
   * What plan version 1 hashed, besides the format's name: the contents of the files, and `columns` where the
   * metadata describes them; otherwise their use by the configuration was part of the hash.
   */
  firstIdentity(): Promise<{ content: object[]; columns?: object }>;
  /** Recorded hashes of the files; null if there are none. */
  hashes(): RecordedHash[] | null;
  /** Files beside those with rows whose hashes `dataset verify --record` keeps. */
  metadata: string[];
}
