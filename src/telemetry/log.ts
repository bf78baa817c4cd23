/** run.log: the events of a run, written by pino. Metrics are in metrics.jsonl. */
import { pino } from 'pino';
import { openForAppending, writeFailure } from '../files/io.js';
import { quantity } from '../text/quantities.js';
import type { Sink } from './record.js';

/** Events before the first step are written when it begins; a run that never begins leaves no log. */
export function logFile(path: string): Sink {
  const early: string[] = [];
  let file: ReturnType<typeof openLog> | null = null;
  const write = (line: string) => void (file === null ? early.push(line) : file.write(line));
  const log = pino({ level: 'debug', base: { pid: process.pid } }, { write });
  return {
    begin: () => {
      file = openLog(path);
      // A full disk must not end the run through its log. The ledger and metrics.jsonl report it.
      file.on('error', () => {});
      for (const line of early.splice(0)) file.write(line);
    },
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
    close: () => file?.end(),
  };
}

function openLog(path: string) {
  try {
    return pino.destination({ dest: openForAppending(path), sync: true });
  } catch (error) {
    throw writeFailure(path, error);
  }
}
