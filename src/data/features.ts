/** The text features of rows of a data set, as the model receives them. */
import { OrchestratorError } from '../errors.js';
import { native } from '../native/load.js';
import { assemble, type Conditioning } from '../sampling/conditioning.js';
import type { DescribedDataset } from './dataset.js';
import type { CaptionKind } from './manifest.js';

/**
 * Reads the features of a caption of these rows; joined features are used as they are. ERR_DATA_ROW: there is
 * no such row; ERR_DATA_COLUMN: rows have no such caption; ERR_DATA_NON_FINITE.
 */
export async function conditioningOf(
  { spec, text, rows: count, hasSynthetic }: DescribedDataset,
  rows: readonly number[],
  caption: CaptionKind,
): Promise<Conditioning> {
  const folder = spec.files[0]!.path;
  const outside = rows.find((row) => row >= count);
  if (outside !== undefined) {
    throw new OrchestratorError(
      'ERR_DATA_ROW',
      `${folder}: there is no row ${outside}; rows are 0 to ${count - 1}`,
    );
  }
  if (caption === 'synthetic' && !hasSynthetic) {
    throw new OrchestratorError('ERR_DATA_COLUMN', `${folder}: rows have no synthetic caption`);
  }
  const columns = spec.columns.filter(({ role }) => role.startsWith(`${caption}.`));
  const dataset = await native().mapDataset({ ...spec, columns });
  try {
    const read = (row: number, feature: string) => {
      const values = dataset.row(`${caption}.${feature}`, row);
      if (values.every(Number.isFinite)) return values;
      throw new OrchestratorError(
        'ERR_DATA_NON_FINITE',
        `${folder}, row ${row}: ${caption}.${feature} holds values that are not finite`,
        'Choose other rows',
      );
    };
    if (columns.some(({ role }) => role === `${caption}.context`)) {
      return {
        count: rows.length,
        context: joined(rows.map((row) => read(row, 'context'))),
        pooled: joined(rows.map((row) => read(row, 'pooled'))),
      };
    }
    const features = rows.map((row) => ({
      clipL: read(row, 'clip_l'),
      clipLPooled: read(row, 'clip_l_pooled'),
      clipG: read(row, 'clip_g'),
      clipGPooled: read(row, 'clip_g_pooled'),
      t5: read(row, 't5'),
    }));
    return assemble(features, text, text.t5Dim);
  } finally {
    dataset.close();
  }
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
