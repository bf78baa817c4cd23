/** Writes the checkpoints of a run whose folder no worker sees, with the state from a worker's memory. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { decodeMetadata } from '../checkpoint/manifest.js';
import { CHECKPOINTS } from '../checkpoint/resume.js';
import { statePieces } from '../checkpoint/state-stream.js';
import { type StagedCheckpoint, stageCheckpoint } from '../checkpoint/store.js';
import { OrchestratorError } from '../errors.js';
import { faultOf } from '../fault.js';
import { faultPoint } from '../fault-points.js';
import { reasonOf } from '../files/io.js';
import { elementsOf } from '../formats/safetensors/header.js';
import { native } from '../native/load.js';
import { connectStreams } from '../rpc/grpc-client.js';
import { type Offered, Peer } from '../rpc/proto.js';
import type { Event, Member } from '../rule/events.js';
import { nameOf } from '../rule/members.js';
import type { Certified } from '../security/identity.js';
import { ArrivingState } from './arriving-state.js';
import { type ExpectedState, otherParts } from './expected-state.js';

const { path, requestSerialize } = Peer.service.Pull;
/** A worker that cannot be reached within this time is told that its state is not wanted (rule/offered-states.ts). */
const CONNECT_MS = 30_000;
/**
 * A transfer that breaks is told so late: if the worker is gone, the coordinator has heard of that before, and orders
 * the checkpoint of the last step from another one.
 */
const LOST_MS = 4_000;
/** Time between two signs that the writing goes on. */
const SIGN_MS = 1_000;

interface FetcherOptions {
  runDir: string;
  onEvent: (event: Event) => void;
  /** Time after which it is told that a transfer has broken. */
  lostMs?: number;
}

interface Remote {
  /** By what the coordinator proves its identity to workers of other machines. */
  own: Certified;
  expected: ExpectedState;
}

export class StateFetcher {
  readonly #options: FetcherOptions;
  /** Null: there are no workers of other machines. */
  #remote: Remote | null = null;
  readonly #over = new AbortController();
  readonly #fetches = new Set<Promise<void>>();

  constructor(options: FetcherOptions) {
    this.#options = options;
  }

  /** Workers of other machines may join. */
  open(remote: Remote): void {
    this.#remote = remote;
  }

  /**
   * Fetches and writes what the worker has offered, and tells how it went.
   *
   * @param number That of the fetch.
   */
  async fetch(member: Member, offered: Offered, number: number): Promise<void> {
    const fetched = this.#fetch(member, offered, number);
    this.#fetches.add(fetched);
    await fetched.finally(() => this.#fetches.delete(fetched));
  }

  /** Ends what is being fetched, of which nothing is told any more. Nothing is written when it resolves. */
  async close(): Promise<void> {
    this.#over.abort(new Error('the run ends'));
    await Promise.all(this.#fetches);
  }

  async #fetch(member: Member, offered: Offered, number: number): Promise<void> {
    const { onEvent } = this.#options;
    const { id } = member;
    const { step, stallSeconds } = offered;
    try {
      const { folder, manifest, seconds } = await this.#write(member, offered);
      const bytes = Object.values(manifest.files).reduce((sum, file) => sum + file.bytes, 0);
      if (this.#over.signal.aborted) return;
      onEvent({ type: 'saved', id, saved: { step, folder, seconds, stallSeconds, bytes } });
    } catch (error) {
      const { signal } = this.#over;
      const fault = faultOf(error);
      if (error instanceof Lost) {
        await sleep(this.#options.lostMs ?? LOST_MS, null, { signal }).catch(() => {});
      }
      if (signal.aborted) return;
      if (error instanceof Lost || error instanceof BrokenOff) {
        onEvent({ type: 'notFetched', fetch: number, fault });
      } else {
        // The worker has sent it and knows of no failure, or it was not asked for it, whoever has ordered it since.
        const { code, message, hint } = fault;
        onEvent({ type: 'notSaved', id, notSaved: { step, failure: { code, message, hint: hint ?? '' } } });
      }
    }
  }

  async #write(member: Member, offered: Offered): Promise<StagedCheckpoint> {
    const remote = this.#remote;
    if (remote === null) throw new OrchestratorError('ERR_PROTOCOL', 'the run is for this machine alone');
    const { step, moments, ema } = offered;
    const metadata = checked(member, offered, remote.expected);
    const { tensors, posEmbed, parameters } = native().parameters(metadata.modelSpec);
    const layout = { tensors, posEmbed, parameters, moments };
    const arriving = new ArrivingState(statePieces(layout, elementsOf(posEmbed.shape)!, ema), (why) =>
      lost(member, step, why),
    );
    const close = await pull(member, step, arriving, remote.own, this.#over.signal);
    try {
      const posEmbed = await arriving.tensor('', '');
      const state = arriving.readers(['master', ...(ema ? ['ema'] : []), ...moments]);
      const content = { layout, posEmbed, state, metadata };
      return await stageCheckpoint(
        join(this.#options.runDir, CHECKPOINTS),
        content,
        this.#signs(member.id, step),
      );
    } catch (error) {
      if (error instanceof Lost || arriving.isComplete) throw error;
      const { code, message, hint } = faultOf(error);
      throw new BrokenOff(code, message, hint);
    } finally {
      close();
    }
  }

  /** Called often, it says now and then that the writing goes on, or ends it. */
  #signs(id: string, step: number): () => void {
    let signed = performance.now();
    return () => {
      faultPoint('fetching', step);
      this.#over.signal.throwIfAborted();
      if (performance.now() - signed < SIGN_MS) return;
      signed = performance.now();
      this.#options.onEvent({ type: 'saving', id, saving: {} });
    };
  }
}

/** What the manifest says of a state that is offered: what the coordinator knows, and how the worker has computed it. */
function checked(member: Member, { step, metadata: bytes, moments, ema }: Offered, expected: ExpectedState) {
  const metadata = decodeMetadata(bytes);
  const others = otherParts(expected, step, { metadata, moments, ema });
  if (others.length === 0) return { ...expected.metadata(step), versions: metadata.versions };
  const message = `${nameOf(member)} offers the state of another run, with another ${others.join(', ')}`;
  throw new OrchestratorError('ERR_PROTOCOL', message);
}

/** Starts the transfer, and returns what ends it. */
async function pull(
  member: Member,
  step: number,
  arriving: ArrivingState,
  own: Certified,
  signal: AbortSignal,
): Promise<() => void> {
  const expected = { run: own.identity.run, role: 'worker', id: member.id } as const;
  const link = { address: member.dataAddress, proof: { own, expected } };
  try {
    const client = await connectStreams(link, path, CONNECT_MS, signal);
    signal.addEventListener('abort', client.close, { once: true });
    if (signal.aborted) client.close();
    const call = client.pull(requestSerialize({ step, kind: 'OFFERED' }), arriving);
    arriving.resume = () => call.resume();
    return () => {
      signal.removeEventListener('abort', client.close);
      client.close();
    };
  } catch (error) {
    throw lost(member, step, `it cannot be reached at ${link.address}: ${reasonOf(error)}`);
  }
}

/** The state did not come. */
class Lost extends OrchestratorError {}

/** It could not be written before all of it had come: the worker sees that the transfer ends. */
class BrokenOff extends OrchestratorError {}

function lost(member: Member, step: number, why: string): Lost {
  const message = `The state after step ${step} did not come from ${nameOf(member)}, and no worker sees the run folder: ${why}`;
  return new Lost('ERR_CHECKPOINT_WRITE', message);
}
