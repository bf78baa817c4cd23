/** Notices that a connection over a network is lost. */
import type { Http2Session } from 'node:http2';

/** A connection is asked so often whether it is alive. */
const PING_MS = 1_000;

/**
 * Ends a connection from which nothing comes any more, because the network has lost it without a word, or because the
 * other side is gone and Node.js has lost the error of a write over TLS, after which it neither reads nor writes
 * (nodejs/node#55804). Turns are counted and not time, so that a pause of this process is not taken for one.
 *
 * @param pings It is given up after so many that nobody has answered.
 * @returns what is to be called when something has come.
 */
export function watchConnection(
  session: Http2Session,
  { pings, everyMs = PING_MS }: { pings: number; everyMs?: number },
): () => void {
  let unanswered = 0;
  const heard = () => {
    unanswered = 0;
  };
  const timer = setInterval(() => {
    if (session.closed || session.destroyed) return;
    if (unanswered++ < pings) session.ping((error) => error ?? heard());
    else session.destroy(new Error(`it has not answered for ${(pings * everyMs) / 1000} s`));
  }, everyMs).unref();
  session.once('close', () => clearInterval(timer));
  return heard;
}
