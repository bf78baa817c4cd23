/** run.log: the events of a run, written by pino. Metrics are in metrics.jsonl. */
import { pino } from 'pino';
import { openForAppending, writeFailure } from '../files/io.js';
import { quantity } from '../text/quantities.js';
import type { Sink } from './record.js';

export function logFile(path: string): Sink {
  const destination = openLog(path);
  // A full disk must not end the run through its log. The ledger and metrics.jsonl report it.
  destination.on('error', () => {});
  const log = pino({ level: 'debug', base: { pid: process.pid } }, destination);
  return {
    phase: (phase) => log.info({ phase }, `the run is ${phase}`),
    note: (level, message) => log[level](message),
    step: (record) =>
      log.debug({ step: record.step, loss: record.loss, seconds: record.seconds }, 'step committed'),
    validation: ({ step, seconds, results }) => {
      for (const { weights, mean } of results) {
        log.info({ step, seconds, weights, mean }, `validation ${quantity(mean)} with ${weights} weights`);
      }
    },
    checkpoint: (record) => log.info(record, 'checkpoint written'),
    close: () => destination.end(),
  };
}

function openLog(path: string) {
  try {
    return pino.destination({ dest: openForAppending(path), sync: true });
  } catch (error) {
    throw writeFailure(path, error);
  }
}
