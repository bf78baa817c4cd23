/** A file for Prometheus' file-based discovery (file_sd_configs), which says where runs serve their metrics. */
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, resolve } from 'node:path';
import { OrchestratorError } from '../errors.js';
import { faultOf } from '../fault.js';
import { errnoOf, makeFolders, readFailure, replaceFile, writeDurably, writeFailure } from '../files/io.js';
import { isMapping, jsonOrNull } from '../files/json.js';
import { waitForLock } from '../native/lock.js';
import { RUN_LABEL } from './metrics.js';
import type { Sink } from './record.js';

/** Addresses that mean every interface, under which nobody else reaches this machine. */
const EVERY_INTERFACE = new Set(['0.0.0.0', '[::]']);

/** `__param_run` becomes a parameter of the request, which only this run answers; `run` is a label of `up`. */
interface Entry {
  targets: string[];
  labels: { [RUN_LABEL]: string; __param_run: string };
}

/**
 * Adds the run's entry to the file, which several runs may share. The entry goes when the run ends, and the
 * file with the last one, unless the run failed: then Prometheus goes on asking, and reports it as down, until
 * the run is resumed.
 *
 * @param address "http://127.0.0.1:9464"
 * @throws OrchestratorError ERR_RUN_LOCKED if another process keeps the file locked; ERR_FILE_WRITE or ERR_FILE_OPEN if
 * it cannot be written or read, or holds something else.
 */
export async function prometheusTargets(path: string, address: string, run: string): Promise<Sink> {
  const url = new URL(address);
  if (EVERY_INTERFACE.has(url.hostname)) url.hostname = hostname();
  const entry: Entry = { targets: [url.host], labels: { [RUN_LABEL]: run, __param_run: run } };
  const isOwn = (other: Entry) => other.labels.__param_run === run;
  await makeFolders(dirname(resolve(path))).catch((error: unknown) => {
    throw writeFailure(path, error);
  });
  await change(path, isOwn, [entry]);
  let failed = false;
  return {
    phase: (phase) => {
      failed = phase === 'FAILED';
    },
    close: async () => {
      if (failed || !existsSync(path)) return;
      try {
        await change(path, isOwn, []);
      } catch (error) {
        // No reason to call a run failed that has ended well.
        const what = `remove the run from ${path}, or Prometheus reports the run as down`;
        process.stderr.write(`warn ${faultOf(error).message}; ${what}\n`);
      }
    },
  };
}

/** Removes and adds entries, while no other run does. Groups of targets that no run wrote stay as they are. */
async function change(path: string, goes: (entry: Entry) => boolean, added: Entry[]): Promise<void> {
  try {
    const unlock = await waitForLock(`${path}.lock`);
    try {
      const groups = [
        ...(await groupsOf(path)).filter((group) => !(isEntry(group) && goes(group))),
        ...added,
      ];
      const content = `${JSON.stringify(groups)}\n`;
      if (groups.length > 0) await replaceFile(path, (temporary) => writeDurably(temporary, content));
      else await rm(path, { force: true });
    } finally {
      unlock();
    }
  } catch (error) {
    throw writeFailure(path, error);
  }
}

function isEntry(group: unknown): group is Entry {
  return isMapping(group) && isMapping(group.labels) && '__param_run' in group.labels;
}

async function groupsOf(path: string): Promise<unknown[]> {
  let content: string;
  try {
    content = await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw readFailure('read', path, error);
  }
  if (content.trim() === '') return [];
  const groups = jsonOrNull(content);
  if (Array.isArray(groups) && groups.every(isMapping)) return groups;
  throw new OrchestratorError('ERR_FILE_WRITE', `${path} holds something else than targets of Prometheus`, {
    hint: 'Name another file, such as cluster/prometheus/targets/runs.json; this one was left as it is',
  });
}
