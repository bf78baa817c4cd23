/** A Prometheus of its own, as a child process on a free port. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';

export interface Series {
  metric: Record<string, string>;
  value: [unixSeconds: number, value: string];
}

interface Rule {
  name: string;
  query: string;
  type: 'recording' | 'alerting';
  health: string;
  lastError?: string;
}

export class Prometheus {
  readonly #process: ChildProcess;
  readonly #address: string;
  #log = '';

  private constructor(child: ChildProcess, address: string) {
    this.#process = child;
    this.#address = address;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#log += text;
    });
  }

  /** Scrapes every second what the files `targets/*.json` of the folder name, with the project's rules. */
  static async start(folder: string): Promise<Prometheus> {
    mkdirSync(join(folder, 'targets'), { recursive: true });
    const config = {
      global: { scrape_interval: '1s', evaluation_interval: '1s' },
      rule_files: [resolve('cluster/prometheus/rules.yaml')],
      scrape_configs: [
        {
          job_name: 'orchestrator',
          honor_labels: true,
          file_sd_configs: [{ files: [join(folder, 'targets/*.json')], refresh_interval: '1s' }],
        },
      ],
    };
    writeFileSync(join(folder, 'prometheus.yaml'), stringify(config));
    const port = await freePort();
    const child = spawn(
      'prometheus',
      [
        `--config.file=${join(folder, 'prometheus.yaml')}`,
        `--storage.tsdb.path=${join(folder, 'data')}`,
        `--web.listen-address=127.0.0.1:${port}`,
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    const server = new Prometheus(child, `http://127.0.0.1:${port}`);
    while (!(await server.#ready())) {
      if (child.exitCode !== null) throw new Error(`prometheus ended:\n${server.#log}`);
      await sleep(50);
    }
    return server;
  }

  /** The current answer to a query. */
  async query(expr: string): Promise<Series[]> {
    const { result } = await this.#get<{ result: Series[] }>(`query?query=${encodeURIComponent(expr)}`);
    return result;
  }

  async rules(): Promise<Rule[]> {
    const { groups } = await this.#get<{ groups: { rules: Rule[] }[] }>('rules');
    return groups.flatMap(({ rules }) => rules);
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null) return;
    this.#process.kill('SIGKILL');
    await once(this.#process, 'exit');
  }

  async #ready(): Promise<boolean> {
    return await fetch(`${this.#address}/-/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  }

  async #get<T>(path: string): Promise<T> {
    const response = await fetch(`${this.#address}/api/v1/${path}`);
    const answer = (await response.json()) as { status: string; error?: string; data: T };
    if (answer.status !== 'success') throw new Error(`${path}: ${answer.error}`);
    return answer.data;
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
