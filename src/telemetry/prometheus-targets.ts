/** A file for Prometheus' file-based discovery (file_sd_configs), which says where a run serves its metrics. */
import { rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, resolve } from 'node:path';
import { makeFolders, replaceFile, writeDurably } from '../files/io.js';
import type { Sink } from './record.js';

/** Addresses that mean every interface, under which nobody else reaches this machine. */
const EVERY_INTERFACE = new Set(['0.0.0.0', '[::]']);

/**
 * Writes the file. It is removed when the run ends, unless the run failed: then Prometheus goes on asking, and
 * reports it as down.
 *
 * @param address "http://127.0.0.1:9464"
 */
export async function prometheusTargets(path: string, address: string): Promise<Sink> {
  const url = new URL(address);
  if (EVERY_INTERFACE.has(url.hostname)) url.hostname = hostname();
  const content = `${JSON.stringify([{ targets: [url.host] }])}\n`;
  await replaceFile(path, async (temporary) => {
    await makeFolders(dirname(resolve(path)));
    await writeDurably(temporary, content);
  });
  let failed = false;
  return {
    phase: (phase) => {
      failed = phase === 'FAILED';
    },
    close: () => {
      if (!failed) rmSync(path, { force: true });
    },
  };
}
