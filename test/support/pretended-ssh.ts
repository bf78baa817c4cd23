/** An ssh in the path that reaches nobody: each host is a script, for what no real one would say. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunHost } from '../../src/launch/processes.js';
import { temporaryFolder } from './folders.js';

export class PretendedSsh {
  readonly #folder = temporaryFolder();
  readonly #path = process.env.PATH;

  /** @param settings What `ssh -G` says. */
  constructor(settings = '') {
    const command = join(this.#folder, 'ssh');
    const lines = [
      '#!/bin/sh',
      `[ "$1" = -G ] && exec cat '${command}.settings'`,
      'while [ "$1" != -- ]; do shift; done',
      `exec '${process.execPath}' '${this.#folder}'/"$2.mjs" "$3"`,
    ];
    writeFileSync(command, `${lines.join('\n')}\n`);
    writeFileSync(`${command}.settings`, settings);
    chmodSync(command, 0o755);
    process.env.PATH = `${this.#folder}:${this.#path}`;
  }

  /** @param script JavaScript; the command is `process.argv[2]`. */
  host(name: string, script: string): RunHost {
    writeFileSync(join(this.#folder, `${name}.mjs`), script);
    return { name, ssh: { destination: name, port: null }, workers: 1, folder: '/opt', data: null };
  }

  close(): void {
    process.env.PATH = this.#path;
  }
}
