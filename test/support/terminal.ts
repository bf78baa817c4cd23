/** A program on a terminal of its own, as `script` of util-linux opens one. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, constants, openSync, readlinkSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { shellText } from '../../src/text/shell.js';
import { childrenOf } from './launched.js';

export interface TerminalOptions {
  columns?: number;
  rows?: number;
  env?: NodeJS.ProcessEnv;
}

export class OnTerminal {
  readonly process: ChildProcess;
  /** The exit code of the program. */
  readonly ended: Promise<number | null>;
  /** Everything that the terminal got. */
  output = '';

  constructor(command: readonly string[], { columns = 80, rows = 24, env = {} }: TerminalOptions = {}) {
    const sized = `stty cols ${columns} rows ${rows}; exec ${shellText(command)}`;
    const { CI: _, NO_COLOR: __, FORCE_COLOR: ___, ...own } = process.env;
    this.process = spawn('script', ['-qfec', sized, '/dev/null'], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...own, TERM: 'xterm-256color', ...env },
    });
    this.process.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.output += text;
    });
    this.ended = new Promise((resolve) => {
      this.process.once('close', (code) => resolve(code));
    });
  }

  /** The file of the terminal. */
  get path(): string {
    const [shell] = childrenOf(this.process.pid!);
    return readlinkSync(`/proc/${shell}/fd/0`);
  }

  /** Presses keys: '\x11' is Ctrl-Q. */
  type(keys: string): void {
    this.process.stdin!.write(keys);
  }

  /** Presses Ctrl-S, and resolves when the terminal takes nothing more. */
  async stop(): Promise<void> {
    this.type('\x13');
    const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
    const terminal = openSync(this.path, O_WRONLY | O_NONBLOCK | O_NOCTTY);
    try {
      for (;;) {
        writeSync(terminal, '\0'); // which shows nothing
        await sleep(5);
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    } finally {
      closeSync(terminal);
    }
  }

  /** Resolves when the terminal has got this text. */
  async shows(text: string | RegExp): Promise<void> {
    const isThere = () => (typeof text === 'string' ? this.output.includes(text) : text.test(this.output));
    while (!isThere()) {
      if (this.process.exitCode !== null) throw new Error(`ended without ${text}:\n${this.output}`);
      await sleep(5);
    }
  }
}
