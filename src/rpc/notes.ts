/** Notes about what others send: however many come, the log and the terminal do not fill. */

/** Notes that are passed on at once in a window of time; of the others only their number and the last. */
const BURST = 5;
const WINDOW_MS = 60_000;

export function limitNotes(write: (message: string) => void) {
  let written = 0;
  let withheld = 0;
  let last = '';
  let timer: NodeJS.Timeout | undefined;
  const flush = () => {
    clearTimeout(timer);
    timer = undefined;
    if (withheld > 0) write(`${withheld} more, the last: ${last}`);
    written = 0;
    withheld = 0;
  };
  const note = (message: string) => {
    timer ??= setTimeout(flush, WINDOW_MS).unref();
    if (written < BURST) {
      written++;
      write(message);
    } else {
      withheld++;
      last = message;
    }
  };
  return { note, flush };
}
