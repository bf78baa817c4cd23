/** A real ssh server on a host of a test (hosts.ts), and the system's ssh as one whose user may log in there. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { pathOf } from './needs.js';

/** sshd gives up its rights in this folder, which its package's service makes at its start. */
const PRIVILEGE_SEPARATION = '/run/sshd';

export class TestSshd {
  readonly #folder: string;
  readonly #servers: ChildProcess[] = [];

  /** @param folder A folder of its own, which the hosts see. */
  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(join(folder, 'bin'), { recursive: true });
    mkdirSync(PRIVILEGE_SEPARATION, { recursive: true, mode: 0o755 });
    for (const name of ['host', 'user']) {
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', join(folder, name)]);
    }
    const key = readFileSync(join(folder, 'host.pub'), 'utf8');
    writeFileSync(join(folder, 'known_hosts'), `* ${key}`);
    const settings = {
      IdentityFile: join(folder, 'user'),
      IdentitiesOnly: 'yes',
      UserKnownHostsFile: join(folder, 'known_hosts'),
      GlobalKnownHostsFile: '/dev/null',
      StrictHostKeyChecking: 'yes',
    };
    writeFileSync(join(folder, 'ssh_config'), lines(settings));
    // The real one, with the configuration of this user.
    const wrapper = `#!/bin/sh\nexec ${pathOf('ssh')} -F ${join(folder, 'ssh_config')} "$@"\n`;
    writeFileSync(join(folder, 'bin', 'ssh'), wrapper);
    chmodSync(join(folder, 'bin', 'ssh'), 0o755);
  }

  /** With it `ssh` is that of the user. */
  get path(): string {
    return `${join(this.#folder, 'bin')}${delimiter}${process.env.PATH}`;
  }

  /**
   * Starts a server, and resolves when it listens.
   *
   * @param before What runs a command on its host.
   * @param environment Variables of the processes that are started by it.
   * @param host Its number, where several hosts have servers.
   */
  async serve(
    before: readonly string[],
    port: number,
    environment: Record<string, string> = {},
    host = 0,
  ): Promise<void> {
    const config = join(this.#folder, `sshd_config-${host}-${port}`);
    const variables = Object.entries(environment).map((pair) => pair.join('='));
    const settings = {
      Port: String(port),
      HostKey: join(this.#folder, 'host'),
      AuthorizedKeysFile: join(this.#folder, 'user.pub'),
      PidFile: 'none',
      // The folders of tests are in one that everybody may write to.
      StrictModes: 'no',
      UsePAM: 'no',
      PasswordAuthentication: 'no',
      PermitRootLogin: 'yes',
      // Tests open more connections at once than the 10 of the default, after which some are refused at random.
      MaxStartups: '1000',
      ...(variables.length === 0 ? {} : { SetEnv: variables.join(' ') }),
    };
    writeFileSync(config, lines(settings));
    const [file, ...words] = [...before, pathOf('sshd')!, '-D', '-e', '-f', config] as string[];
    const server = spawn(file!, words, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#servers.push(server);
    let log = '';
    server.stderr.setEncoding('utf8').on('data', (text: string) => {
      log += text;
    });
    while (!/^Server listening on .*$/m.test(log)) {
      if (server.exitCode !== null) throw new Error(`sshd has ended: ${log}`);
      await Promise.race([once(server.stderr, 'data'), once(server, 'exit')]);
    }
  }

  close(): void {
    for (const server of this.#servers) server.kill('SIGKILL');
  }
}

function lines(settings: Record<string, string>): string {
  return `${Object.entries(settings)
    .map((pair) => pair.join(' '))
    .join('\n')}\n`;
}
