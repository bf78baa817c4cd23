/** The error for a path at which there is no checkpoint: what is there instead. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parse } from 'yaml';
import { OrchestratorError } from '../errors.js';
import { isMapping } from '../files/json.js';
import { lastStep } from '../files/jsonl-seek.js';
import { MANIFEST } from './manifest.js';

export function noCheckpoint(path: string): OrchestratorError {
  const failure = (message: string, hint: string | null = null) =>
    new OrchestratorError('ERR_CHECKPOINT_MISSING', message, hint);
  if (!existsSync(path)) return failure(`${path} does not exist`);
  if (statSync(path).isFile()) {
    return failure(`${path} is a file`, `Give the folder of the checkpoint, such as ${dirname(path)}`);
  }
  const config = join(path, 'config.yaml');
  const ledger = join(path, 'ledger.jsonl');
  if (!existsSync(config) || !existsSync(ledger)) {
    return failure(`${path} is neither a checkpoint (a folder with ${MANIFEST}) nor a run with checkpoints`);
  }
  const every = checkpointEvery(config);
  const first = every === null || every === 0 ? '' : `at step ${every}, or `;
  const step = lastStep(ledger);
  return failure(
    `${path} is a run${step === 0 ? '' : ` at step ${step}`} that has not saved a checkpoint yet`,
    `The first one is written ${first}when the run ends or is stopped`,
  );
}

function checkpointEvery(path: string): number | null {
  try {
    const config: unknown = parse(readFileSync(path, 'utf8'));
    const every = isMapping(config) && isMapping(config.checkpoint) ? config.checkpoint.every : null;
    return typeof every === 'number' ? every : null;
  } catch {
    return null;
  }
}
