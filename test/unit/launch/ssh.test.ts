import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { describe, expect, test } from 'vitest';
import { LAUNCHERS } from '../../../src/launch/launcher.js';
import {
  type LaunchOptions,
  mostTogether,
  type RunHost,
  thisMachine,
  WORKER_OPTIONS,
  workerProcess,
  workersHere,
} from '../../../src/launch/processes.js';
import { commandFor, travelling } from '../../../src/launch/ssh.js';

const B: RunHost = {
  name: 'root@b:2222',
  ssh: { destination: 'root@b', port: 2222 },
  workers: 2,
  folder: '/opt/my run',
  data: "/mnt/it's here",
};

const RUN: LaunchOptions = {
  hosts: [thisMachine(1), B],
  workerPort: 29_501,
  environment: { NCCL_DEBUG: 'INFO' },
  instructionSets: null,
  minWorkers: 1,
  maxRestarts: 3,
  patienceSeconds: 600,
  device: 'cpu',
  configPath: 'run.yaml',
  runDir: '/runs/a',
  resume: 'auto',
  overrides: [],
  network: { listen: '10.0.0.1:29500', advertise: '10.0.0.1' },
  form: 'text',
  prometheusTargets: null,
};

describe('a worker of another host', () => {
  const spec = workerProcess(RUN, 2);

  test('has its rank, its share of the host, and its port', () => {
    expect(spec.environment).toEqual({
      NCCL_DEBUG: 'INFO',
      ORCHESTRATOR_WORKER_ID: 'root@b:2222-2',
      LOCAL_RANK: '1',
      LOCAL_WORLD_SIZE: '2',
    });
    expect(spec.command.slice(1)).toEqual([
      ...['worker', '--credential', '-', '--port', '29502'],
      ...['--data', "/mnt/it's here"],
    ]);
    expect(workersHere(RUN)).toBe(1);
    expect(mostTogether(RUN)).toBe(2);
  });

  test('is started by ssh without questions, and a shell understands the line', () => {
    const command = commandFor(spec);
    expect(command.slice(0, -1)).toEqual([
      ...['ssh', '-T', '-a', '-x', '-o', 'BatchMode=yes', '-o', 'ConnectTimeout=15'],
      ...['-o', 'ServerAliveInterval=10', '-p', '2222', '--', 'root@b'],
    ]);
    const line = command.at(-1)!;
    // The same words reach the program, which is not here.
    const printed = line.replace(/^cd .* && exec env .* \.\/orchestrator/, 'printf "%s\\n"');
    const words = execFileSync('sh', ['-c', printed], { encoding: 'utf8' }).split('\n').slice(0, -1);
    expect(words).toEqual(spec.command.slice(1));
    expect(line).toMatch(/^cd '\/opt\/my run' && exec env PATH=/);
    expect(line).toContain(`PATH="$PATH":${dirname(process.execPath)} `);
  });

  test('may live on when its connection has ended, but not when it has ended itself', () => {
    const hasEnded = (code: number | null, signal: NodeJS.Signals | null = null) =>
      LAUNCHERS.ssh.hasEnded(spec, { code, signal });
    expect([hasEnded(0), hasEnded(1), hasEnded(70)]).toEqual([true, true, true]);
    expect([hasEnded(255), hasEnded(null, 'SIGKILL')]).toEqual([false, false]);
    expect(LAUNCHERS.ssh.hasEnded(workerProcess(RUN, 0), { code: 255, signal: null })).toBe(true);
  });
});

test('only these variables travel: what all workers must have alike, and what is about the network of GPUs', () => {
  const environment = {
    ...{ HOME: '/root', AWS_SECRET_ACCESS_KEY: 'x', ORCHESTRATOR_CUDA: '/lib/cuda.so' },
    ...{ ORCHESTRATOR_TOKEN: 'x', ORCHESTRATOR_ISABEL: 'x', LD_PRELOAD: 'x', PATH: '/bin' },
  };
  const alike = { ORCHESTRATOR_ISA: 'avx2', ORCHESTRATOR_CUDA_GELU: 'separate', NCCL_SOCKET_IFNAME: 'eth0' };
  expect(travelling({ ...environment, ...alike })).toEqual(alike);
});

test("the command of a checkout starts a worker with the launcher's options of Node.js", () => {
  expect(readFileSync('orchestrator', 'utf8')).toContain(`options+=(${WORKER_OPTIONS.join(' ')})`);
});

test('what ssh prints where it cannot reach a host, and not where it has lost it or was refused', () => {
  const { ssh } = LAUNCHERS;
  const [here, there] = [workerProcess(RUN, 0), workerProcess(RUN, 1)];
  for (const line of [
    'ssh: connect to host b port 2222: No route to host',
    'ssh: Could not resolve hostname b: Temporary failure in name resolution',
    'kex_exchange_identification: Connection closed by remote host',
    'Connection timed out during banner exchange',
  ]) {
    expect(ssh.saysUnreachable(there, line, null), line).toBe(true);
    expect(ssh.saysUnreachable(here, line, null), line).toBe(false);
  }
  const before = 'kex_exchange_identification: read: Connection reset by peer';
  for (const line of [
    'Connection reset by 10.0.0.2 port 2222',
    'Connection closed by 10.0.0.2 port 2222',
    'Connection to 10.0.0.2 port 2222 timed out',
  ]) {
    expect(ssh.saysUnreachable(there, line, before), line).toBe(true);
    // A server ends the login so, too, when it has shown its key.
    expect(ssh.saysUnreachable(there, line, null), line).toBe(false);
  }
  for (const line of [
    'Timeout, server b not responding.',
    'Connection to b closed by remote host.',
    'client_loop: send disconnect: Broken pipe',
    'Read from remote host 10.0.0.2: Connection reset by peer',
  ]) {
    expect([ssh.saysLost(there, line), ssh.saysLost(here, line)], line).toEqual([true, false]);
    expect(ssh.saysUnreachable(there, line, null), line).toBe(false);
  }
  for (const line of [
    'root@b: Permission denied (publickey).',
    'Host key verification failed.',
    'sh: 1: exec: ./orchestrator: not found',
  ]) {
    expect(ssh.saysUnreachable(there, line, null), line).toBe(false);
    expect(ssh.saysLost(there, line), line).toBe(false);
  }
});
