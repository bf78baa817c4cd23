/**
 * The socket in a run's folder at which `orchestrator status` asks. Only the user may open it. It works only on
 * the machine of the coordinator; elsewhere, and where no socket can be made, the files of the run are read.
 */
import { closeSync, constants, openSync, rmSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { z } from 'zod';
import { readFailure, reasonOf } from '../files/io.js';
import type { Sink } from '../telemetry/record.js';
import type { RunProgress, RunView } from '../telemetry/run-progress.js';

const SOCKET = 'status.sock';
const MAX_CONNECTIONS = 16;
/** A client that has not read the answer by then is cut off. */
const CLIENT_MS = 5_000;
const ANSWER_MS = 2_000;
/** Characters; a worker takes about 150 of them, and a run has up to 4,096. */
const MAX_ANSWER = 1 << 22;

/**
 * The socket's name by an open folder: the path of a socket may have 107 bytes, that of a run folder any number.
 */
const inFolder = (fd: number) => join(`/proc/self/fd/${fd}`, SOCKET);
const openFolder = (path: string) => {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    throw readFailure('open', path, error);
  }
};

/** Serves the state until the sink is closed; a text says why it cannot. */
export async function serveStatus(progress: RunProgress, runDir: string): Promise<Sink | string> {
  const folder = openFolder(runDir);
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.setTimeout(CLIENT_MS, () => socket.destroy());
    socket.end(`${JSON.stringify(progress.view())}\n`);
  });
  server.maxConnections = MAX_CONNECTIONS;
  try {
    // A killed run leaves its socket.
    rmSync(inFolder(folder), { force: true });
    await listenAt(server, inFolder(folder));
  } catch (error) {
    closeSync(folder);
    return `no socket for \`orchestrator status\` in ${runDir} (${reasonOf(error)}): it reads the run's files`;
  }
  server.on('error', () => {});
  return {
    close: () => {
      server.close();
      rmSync(inFolder(folder), { force: true });
      closeSync(folder);
    },
  };
}

/** The socket is made within listen(), with the permissions that the mask leaves: the user's alone. */
function listenAt(server: Server, path: string): Promise<void> {
  const listening = new Promise<void>((resolve, reject) => {
    server.once('error', reject).once('listening', resolve);
  });
  const mask = process.umask(0o177);
  try {
    server.listen(path);
  } finally {
    process.umask(mask);
  }
  return listening;
}

const number = z.number().nullable();
// What is not a number, such as the loss of a run that diverged, is null in JSON.
const lossAt = z.object({ step: z.number(), loss: number }).nullable();
const answerSchema = z.object({
  ...{ name: z.string(), run_dir: z.string(), phase: z.string(), unix_seconds: z.number() },
  ...{ step: z.number(), steps: z.number(), epoch: number, restarts: z.number(), workers: z.number() },
  ...{ elapsed_seconds: z.number(), remaining_seconds: number, validating_seconds: number },
  ...{ loss: number, mean_loss: number, gradient_norm: number, learning_rate: number, max_abs_logit: number },
  ...{ step_seconds: number, samples_per_second: number, flops_per_second: number },
  validating_slots: z.object({ done: z.number(), total: z.number() }).nullable(),
  validation: z.object({ weights: z.string(), last: lossAt, best: lossAt, seconds: number }).nullable(),
  checkpoint: z
    .object({ step: z.number(), path: z.string(), age_seconds: number, free_bytes: number })
    .nullable(),
  missed_checkpoints: z.number(),
  members: z.array(
    z.object({
      ...{ rank: number, id: z.string(), host: z.string(), pid: number, device: z.string() },
      state: z.enum(['training', 'building', 'standby', 'leaving', 'missing', 'lost', 'ended', 'unknown']),
    }),
  ),
  stragglers: z.array(z.object({ rank: z.number(), host: z.string(), times: z.number() })),
  clipped_share: number,
  remaining_is_rough: z.boolean().nullable(),
} satisfies Record<keyof RunView, z.ZodType>);

/**
 * The state of a run, from its coordinator; null if none answers, and 'other version' if the answer is not what
 * this version says.
 */
export async function askStatus(runDir: string): Promise<RunView | 'other version' | null> {
  const folder = openFolder(runDir);
  const socket = connect(inFolder(folder));
  socket.setTimeout(ANSWER_MS, () => socket.destroy(new Error('no answer')));
  try {
    let text = '';
    for await (const piece of socket.setEncoding('utf8')) {
      text += piece;
      // Whoever may write in the folder may have put another socket there.
      if (text.length > MAX_ANSWER) return null;
    }
    const answer: unknown = JSON.parse(text);
    return answerSchema.safeParse(answer).success ? (answer as RunView) : 'other version';
  } catch {
    // Nobody listens, on this machine, or the coordinator stands still.
    return null;
  } finally {
    socket.destroy();
    closeSync(folder);
  }
}
