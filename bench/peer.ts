/** A PyTorch process that trains the same model when asked to. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { BenchShape, PeerMode } from './shapes.js';

export interface PeerRound {
  steps: number;
  seconds: number;
  loss: number;
  peakBytes: number;
}

/** A Python with torch >= 2: ORCHESTRATOR_PYTHON, or python3. Null, and why, where there is none. */
export function findPython(): { python: string | null; note: string } {
  const python = process.env.ORCHESTRATOR_PYTHON ?? 'python3';
  const check = 'import torch; print(torch.__version__); assert int(torch.__version__.split(".")[0]) >= 2';
  const { status, stdout, error } = spawnSync(python, ['-c', check], { encoding: 'utf8' });
  if (status === 0) return { python, note: `PyTorch ${stdout.trim()} (${python})` };
  return {
    python: null,
    note: `no PyTorch >= 2 in ${python}${error ? ` (${error.message})` : ''}; set ORCHESTRATOR_PYTHON to compare with it`,
  };
}

export class Peer {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(
    readonly mode: PeerMode,
    child: ChildProcess,
    lines: AsyncIterator<string>,
  ) {
    this.#child = child;
    this.#lines = lines;
  }

  /** Resolves when the model is built, compiled and warm. */
  static async start(
    python: string,
    script: string,
    shape: BenchShape,
    mode: PeerMode,
    threads: number,
  ): Promise<{ peer: Peer; parameters: number }> {
    const spec = {
      ...shape.model,
      hidden: 64 * shape.model.heads,
      latentHeight: shape.latentHeight,
      latentWidth: shape.latentWidth,
      contextTokens: shape.text.clipTokens + shape.text.t5Tokens,
      batch: shape.globalBatch,
      threads,
    };
    const child = spawn(python, [script, JSON.stringify(spec), mode], { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
    const peer = new Peer(mode, child, lines);
    const { parameters } = (await peer.#next()) as { parameters: number };
    return { peer, parameters };
  }

  async run(seconds: number): Promise<PeerRound> {
    this.#child.stdin?.write(`${seconds}\n`);
    return (await this.#next()) as PeerRound;
  }

  stop(): void {
    this.#child.stdin?.end();
  }

  async #next(): Promise<unknown> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`the PyTorch process (${this.mode}) ended early`);
    return JSON.parse(value);
  }
}

/** bench/peers/mmdit_torch.py; this module runs from build/bench/bench/. */
export const PEER_SCRIPT = fileURLToPath(new URL('../../../bench/peers/mmdit_torch.py', import.meta.url));
