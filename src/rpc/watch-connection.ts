/** Notices that the network has lost a connection. */
import type { ClientHttp2Session } from 'node:http2';

/** A connection over a network is asked so often whether it is alive, and given up after so many times in vain. */
const PING_MS = 1_000;
const PINGS = 3;

/**
 * Ends a connection from which nothing comes any more, because the network has lost it without a word. Turns are
 * counted and not time, so that a pause of this process is not taken for one.
 *
 * @returns what is to be called when something has come.
 */
export function watchConnection(session: ClientHttp2Session, everyMs = PING_MS): () => void {
  let unanswered = 0;
  const heard = () => {
    unanswered = 0;
  };
  const timer = setInterval(() => {
    if (session.closed || session.destroyed) return;
    if (unanswered++ < PINGS) session.ping((error) => error ?? heard());
    else session.destroy(new Error(`it has not answered for ${(PINGS * everyMs) / 1000} s`));
  }, everyMs).unref();
  session.once('close', () => clearInterval(timer));
  return heard;
}
